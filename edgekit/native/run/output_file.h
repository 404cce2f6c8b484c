/* A file that a job writes at its end, under a name that the user gives. */
#ifndef EDGEKIT_RUN_OUTPUT_FILE_H
#define EDGEKIT_RUN_OUTPUT_FILE_H

#include <string>

namespace run {

class OutputFile {
 public:
  /* Checks, before any work, that the file can be written: nothing is made or changed. A pipe is opened, and kept open, since it
   * needs a reader from the beginning. Throws Failure.
   *
   *   path  "": there is no file
   *   what  what is written, for messages: "the receipt" */
  OutputFile(std::string path, std::string what);
  OutputFile(const OutputFile &) = delete;
  OutputFile &operator=(const OutputFile &) = delete;
  ~OutputFile();

  /* Returns what went wrong, or "". */
  std::string write(const std::string &text);

 private:
  std::string problem(const char *reason) const;

  std::string path_, what_;
  int pipe_ = -1;
};

}  // namespace run

#endif
