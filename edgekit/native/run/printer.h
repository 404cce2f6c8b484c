/* Writes an answer to stdout while it is generated. */
#ifndef EDGEKIT_RUN_PRINTER_H
#define EDGEKIT_RUN_PRINTER_H

#include <chrono>
#include <string>
#include <string_view>

#include "options.h"

namespace run {

/* On a terminal the thought is dimmed, or folded to one line; elsewhere it stands between tags. */
class Printer {
 public:
  /* quiet: only collect the text. */
  Printer(bool quiet, Thoughts thoughts);

  /* Throws Failure if the output cannot be written. If a signal such as Ctrl-C ends a write that waits for the reader,
   * the rest of the answer is collected, but not written. */
  void piece(std::string_view text, bool is_thought);
  void end();

  std::string thought, answer; /* what has been written, without tags */

 private:
  void open();
  void close(const char *gap);
  void write(const std::string &text);

  bool quiet_, terminal_, dims_ = false, thinking_ = false, stopped_ = false;
  Thoughts thoughts_;
  std::chrono::steady_clock::time_point started_;
  char last_ = 0;
};

/* Without control characters, except tab and newline: neither a model nor an artifact must move the cursor or change the
 * terminal's title. */
std::string printable(std::string_view text);

/* A number as printf writes it; NaN as "nan", without a sign. */
std::string text_of(const char *format, double value);

/* "250 ms" or "1.5 s". */
std::string seconds_text(double seconds);

}  // namespace run

#endif
