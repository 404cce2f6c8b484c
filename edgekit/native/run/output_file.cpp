#include "output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "failure.h"

namespace run {
namespace {

std::string folder_of(const std::string &path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

/* Whether a file in a folder would be inside an artifact, to which nothing can be added. */
bool is_in_artifact(const std::string &folder) {
  char *real = ::realpath(folder.c_str(), nullptr);
  if (!real) return false;
  std::string at = real;
  std::free(real);
  for (;; at.resize(at.rfind('/'))) {
    if (::access((at + "/edgekit.json").c_str(), F_OK) == 0) return true;
    if (at.empty()) return false;
  }
}

}  // namespace

OutputFile::OutputFile(std::string path, std::string what) : path_(std::move(path)), what_(std::move(what)) {
  if (path_.empty()) return;
  struct stat status;
  int error = 0;
  if (::stat(path_.c_str(), &status) != 0)
    error = errno == ENOENT && ::access(folder_of(path_).c_str(), W_OK | X_OK) == 0 ? 0 : errno;
  else if (S_ISDIR(status.st_mode))
    error = EISDIR;
  else if (S_ISFIFO(status.st_mode)) /* O_NONBLOCK: a pipe without a reader is an error, not a wait */
    error = (pipe_ = ::open(path_.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0 ? errno : 0;
  else
    error = ::access(path_.c_str(), W_OK) == 0 ? 0 : errno;
  if (error) throw bad_artifact(problem(std::strerror(error)));
  if (is_in_artifact(folder_of(path_))) throw bad_artifact(problem("it is inside an artifact, to which nothing can be added"));
}

OutputFile::~OutputFile() {
  if (pipe_ >= 0) ::close(pipe_);
}

std::string OutputFile::write(const std::string &text) {
  if (path_.empty()) return "";
  const int opened = pipe_ >= 0 ? pipe_ : ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC, 0666);
  pipe_ = -1;
  if (opened >= 0) ::fcntl(opened, F_SETFL, ::fcntl(opened, F_GETFL) & ~O_NONBLOCK); /* but a reader may be slow */
  FILE *file = opened < 0 ? nullptr : ::fdopen(opened, "wb");
  const bool written = file && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return file && std::fclose(file) == 0 && written ? "" : problem(std::strerror(errno));
}

std::string OutputFile::problem(const char *reason) const { return "cannot write " + what_ + " " + path_ + ": " + reason; }

}  // namespace run
