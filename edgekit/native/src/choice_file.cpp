#include "choice_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "cpu.h"

#ifndef EK_KERNELS_VERSION /* CMakeLists.txt: a hash of the kernels' sources and of the compiler */
#error "EK_KERNELS_VERSION is not defined"
#endif

namespace ek {
namespace {

constexpr size_t kMostBytes = 1 << 16;

std::string hash_of(const std::string &text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016" PRIx64, hash);
  return hex;
}

std::string header() {
  return "edgekit kernels 1\nprocessor " + processor_model() + "\nlibrary " EK_KERNELS_VERSION "\n";
}

std::string line_start(const MeasuredSpeed &speed) { return std::string(role_name(speed.role)) + " " + speed.table->name + " "; }

/* The bytes of a regular file, "" for anything else. Does not wait for the other end of a pipe. */
std::string read_regular(const std::string &path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return "";
  std::string text(kMostBytes, '\0');
  struct stat status;
  size_t size = 0;
  if (::fstat(file, &status) == 0 && S_ISREG(status.st_mode))
    for (ssize_t count; size < text.size() && (count = ::read(file, &text[size], text.size() - size)) > 0;)
      size += static_cast<size_t>(count);
  ::close(file);
  text.resize(size);
  return text;
}

/* Whether a file with this text was written under its own name. */
bool write_new(const std::string &path, const std::string &text) {
  std::string part = path + ".XXXXXX";
  const int file = ::mkstemp(part.data()); /* containers that share the folder may have the same process id */
  if (file < 0) return false;
  const bool written = ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const bool closed = ::close(file) == 0;
  if (written && closed && std::rename(part.c_str(), path.c_str()) == 0) return true;
  ::unlink(part.c_str());
  return false;
}

}  // namespace

std::string cache_folder() {
  const auto variable = [](const char *name) {
    const char *value = std::getenv(name);
    return std::string(value ? value : "");
  };
  const std::string own = variable("EDGEKIT_CACHE"), base = variable("XDG_CACHE_HOME"), home = variable("HOME");
  if (!own.empty()) return own == "~" || own.compare(0, 2, "~/") == 0 ? home + own.substr(1) : own;
  if (base.compare(0, 1, "/") == 0) return base + "/edgekit";
  return home.empty() ? "" : home + "/.cache/edgekit";
}

std::string choice_path(const std::string &folder) { return folder + "/kernels/" + hash_of(header()) + ".txt"; }

bool read_choice(const std::string &path, std::vector<MeasuredSpeed> &speeds) {
  const std::string text = read_regular(path), expected = header();
  const size_t end = text.rfind("checksum ");
  if (end == std::string::npos || text.substr(end) != "checksum " + hash_of(text.substr(0, end)) + "\n") return false;
  if (text.compare(0, expected.size(), expected) != 0) return false;
  std::vector<double> rates;
  size_t at = expected.size();
  for (const MeasuredSpeed &speed : speeds) {
    const std::string start = line_start(speed);
    const size_t line_end = text.find('\n', at);
    if (text.compare(at, start.size(), start) != 0 || line_end >= end) return false;
    char *stop = nullptr;
    const std::string number = text.substr(at + start.size(), line_end - at - start.size());
    rates.push_back(static_cast<double>(std::strtoll(number.c_str(), &stop, 10)));
    if (number.empty() || *stop || rates.back() <= 0) return false;
    at = line_end + 1;
  }
  if (at != end) return false;
  for (size_t i = 0; i < speeds.size(); ++i) speeds[i].rate = rates[i];
  return true;
}

bool write_choice(const std::string &path, const std::vector<MeasuredSpeed> &speeds) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1))
    (void)::mkdir(path.substr(0, slash).c_str(), 0700); /* those that exist remain; the last one decides below */
  std::string text = header();
  for (const MeasuredSpeed &speed : speeds) text += line_start(speed) + std::to_string(std::llround(speed.rate)) + "\n";
  return write_new(path, text + "checksum " + hash_of(text) + "\n");
}

}  // namespace ek
