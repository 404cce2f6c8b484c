#include "printer.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "failure.h"

namespace run {

std::string printable(std::string_view text) {
  std::string kept;
  for (size_t at = 0; at < text.size(); ++at) {
    const auto byte = static_cast<unsigned char>(text[at]), next = static_cast<unsigned char>(at + 1 < text.size() ? text[at + 1] : 0);
    if (byte == 0xc2 && next >= 0x80 && next < 0xa0)
      ++at;
    else if ((byte >= 32 || byte == '\t' || byte == '\n') && byte != 127)
      kept += text[at];
  }
  return kept;
}

std::string text_of(const char *format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, std::isnan(value) ? std::fabs(value) : value);
  return text;
}

std::string seconds_text(double seconds) {
  char text[32];
  seconds < 1 ? std::snprintf(text, sizeof text, "%.0f ms", seconds * 1000) : std::snprintf(text, sizeof text, "%.1f s", seconds);
  return text;
}

Printer::Printer(bool quiet, Thoughts thoughts) : quiet_(quiet), terminal_(::isatty(STDOUT_FILENO)), thoughts_(thoughts) {
  if (thoughts == Thoughts::fold && !terminal_) thoughts_ = Thoughts::hide;
  const char *plain = std::getenv("NO_COLOR"), *term = std::getenv("TERM");
  dims_ = terminal_ && !(plain && *plain) && !(term && std::string(term) == "dumb");
}

void Printer::piece(std::string_view text, bool is_thought) {
  (is_thought ? thought : answer) += text;
  if (quiet_) return;
  if (is_thought != thinking_) is_thought ? open() : close("\n\n");
  if (!is_thought || thoughts_ == Thoughts::show) write(terminal_ ? printable(text) : std::string(text));
}

void Printer::end() {
  if (quiet_) return;
  if (thinking_) close("");
  if (last_ != '\n') write("\n");
}

void Printer::open() {
  thinking_ = true;
  started_ = std::chrono::steady_clock::now();
  if (thoughts_ == Thoughts::show) write(dims_ ? "\x1b[2m" : "<think>\n");
  if (thoughts_ == Thoughts::fold) write(dims_ ? "\x1b[2mThinking ...\x1b[0m" : "Thinking ...");
}

void Printer::close(const char *gap) {
  thinking_ = false;
  if (thoughts_ == Thoughts::show) write(std::string(dims_ ? "\x1b[0m" : "\n</think>") + gap);
  if (thoughts_ != Thoughts::fold) return;
  const std::string took = seconds_text(std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count());
  write((dims_ ? "\r\x1b[K\x1b[2mThought for " + took + "\x1b[0m" : " for " + took) + gap);
}

/* Without stdio, whose buffer would keep the rest of a write that Ctrl-C ends. */
void Printer::write(const std::string &text) {
  if (text.empty() || stopped_) return;
  last_ = text.back();
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t count = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (count >= 0) {
      rest.remove_prefix(static_cast<size_t>(count));
    } else if (errno == EINTR) {
      stopped_ = true;
      return;
    } else if (errno == EAGAIN) {
      pollfd output{STDOUT_FILENO, POLLOUT, 0};
      stopped_ = ::poll(&output, 1, -1) < 0 && errno == EINTR;
      if (stopped_) return;
    } else {
      throw Failure{52, "disk_full", "cannot write the output", ""};
    }
  }
}

}  // namespace run
