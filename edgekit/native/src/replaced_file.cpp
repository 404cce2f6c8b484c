#include "replaced_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "error.h"

namespace ek {
namespace {

constexpr std::string_view kMark = ".saving-", kRandom = "XXXXXX";
constexpr int kMostLinks = 40, kTries = 100;
constexpr size_t kLongestName = 255; /* bytes, of every usual file system */

[[noreturn]] void refuse(const std::string &path, int error) {
  fail(error == ENOMEM ? EK_NO_MEMORY : EK_BAD_FILE, "cannot open %s: %s", path.c_str(), std::strerror(error));
}

/* With the slash at its end; "" for a path without one. */
std::string folder_of(const std::string &path) { return path.substr(0, path.rfind('/') + 1); }

/* Where a path leads to if its last part is a link. What it leads to may be missing. */
std::string followed(const std::string &given) {
  std::string path = given;
  char target[4096];
  for (int links = 0; links < kMostLinks; ++links) {
    const ssize_t size = ::readlink(path.c_str(), target, sizeof target);
    if (size <= 0) return path;
    const std::string to(target, static_cast<size_t>(size));
    path = to[0] == '/' ? to : folder_of(path) + to;
  }
  refuse(given, ELOOP);
}

/* .NAME.saving-, shortened where the system would refuse its length. */
std::string stem_of(const std::string &name) {
  const size_t room = kLongestName - 1 - kMark.size() - kRandom.size();
  return "." + name.substr(0, static_cast<size_t>(shown_bytes(name.c_str(), room))) + std::string(kMark);
}

bool is_part(std::string_view name, std::string_view stem) {
  return name.size() == stem.size() + kRandom.size() && name.substr(0, stem.size()) == stem;
}

struct Close {
  void operator()(DIR *folder) const { ::closedir(folder); }
};

/* Remove the files of this user that killed writers of the same path have left in a folder: nobody has locked them. */
void remove_abandoned(const std::string &folder, std::string_view stem) {
  const std::unique_ptr<DIR, Close> opened(::opendir(folder.empty() ? "." : folder.c_str()));
  while (const dirent *entry = opened ? ::readdir(opened.get()) : nullptr) {
    if (!is_part(entry->d_name, stem)) continue;
    const std::string path = folder + entry->d_name;
    const int file = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) continue;
    struct stat status {};
    const bool own = ::fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == ::geteuid();
    if (own && ::flock(file, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
    ::close(file);
  }
}

}  // namespace

ReplacedFile::ReplacedFile(const std::string &path) : path_(followed(path)) {
  const std::string folder = folder_of(path_), stem = stem_of(path_.substr(folder.size()).c_str()); /* up to a NUL, as the system reads it */
  if (folder.size() == path_.size()) refuse(path, ENOENT);
  remove_abandoned(folder, stem);
  for (int tries = 0; !file_; ++tries) {
    part_ = folder + stem;
    part_ += kRandom;
    const int made = ::mkostemp(part_.data(), O_CLOEXEC); /* for its owner alone */
    if (made < 0) refuse(path, errno);
    /* Another writer may have taken it for an abandoned one before it was locked. Some file systems have no locks. */
    const bool taken = (::flock(made, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) || ::access(part_.c_str(), F_OK) != 0;
    if (taken && tries < kTries) {
      ::close(made);
      continue;
    }
    struct stat status {};
    replaces_ = ::stat(path_.c_str(), &status) == 0;
    if (replaces_) (void)!::fchmod(made, status.st_mode & 0777);
    lock_ = ::fcntl(made, F_DUPFD_CLOEXEC, 0);
    file_ = ::fdopen(made, "wb");
    if (file_) break;
    const int error = errno;
    ::unlink(part_.c_str());
    ::close(made);
    if (lock_ >= 0) ::close(lock_);
    refuse(path, error);
  }
}

ReplacedFile::~ReplacedFile() {
  if (file_) std::fclose(file_);
  if (!part_.empty()) ::unlink(part_.c_str());
  if (lock_ >= 0) ::close(lock_);
}

bool ReplacedFile::finish() {
  const bool written = std::fflush(file_) == 0 && (!replaces_ || ::fsync(::fileno(file_)) == 0);
  const int error = errno;
  const bool closed = std::fclose(file_) == 0;
  file_ = nullptr;
  if (!written) errno = error;
  if (!written || !closed || std::rename(part_.c_str(), path_.c_str()) != 0) return false;
  part_.clear();
  return true;
}

}  // namespace ek
