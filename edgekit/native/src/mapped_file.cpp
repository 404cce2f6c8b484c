#include "mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "error.h"
#include "process.h"

namespace ek {

/* What the handler of SIGBUS knows of a mapped file. Never freed, because the handler may look at it at any time; the next file
 * uses it again. */
struct Mapping {
  std::atomic<uintptr_t> begin{0}, end{0}; /* 0: not used */
  std::atomic<bool> lost{false};
  Mapping *next = nullptr;
};

namespace {

std::atomic<Mapping *> mappings{nullptr};
std::atomic<uintptr_t> page_size{4096};

Mapping *register_mapping(const uint8_t *data, uint64_t size) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const std::lock_guard<std::mutex> lock(short_mutex());
  Mapping *mapping = mappings.load();
  while (mapping && mapping->end.load()) mapping = mapping->next;
  if (!mapping) {
    mapping = new Mapping;
    mapping->next = mappings.load();
    mappings.store(mapping);
  }
  page_size.store(static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE)));
  mapping->lost.store(false);
  mapping->begin.store(begin);
  mapping->end.store(begin + size);
  return mapping;
}

/* The state of the handler, guarded by short_mutex(). */
int guards = 0;
bool buried = false; /* somebody has put another handler over this one, and may call it */
struct sigaction previous;

/* What would have happened without this library. */
void leave(int signal, siginfo_t *info, void *context) {
  if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
  const bool sent = info->si_code <= 0; /* by a program, with kill() */
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
  if (previous.sa_handler == SIG_IGN && sent) return;
  struct sigaction fatal {};
  fatal.sa_handler = SIG_DFL;
  ::sigaction(signal, &fatal, nullptr);
  if (sent) ::raise(signal); /* else the instruction is repeated */
}

/* Puts pages of zeros in place of those of a file. */
bool map_zeros(uintptr_t begin, size_t size) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
#if defined(__linux__) && defined(SYS_mmap)
  /* Without the C library, whose mmap the thread sanitizer takes for a write to what other threads read. */
  return ::syscall(SYS_mmap, begin, size, PROT_READ, flags, -1, 0L) != -1;
#else
  return ::mmap(reinterpret_cast<void *>(begin), size, PROT_READ, flags, -1, 0) != MAP_FAILED;
#endif
}

void on_bus_error(int signal, siginfo_t *info, void *context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  const int error = errno;
  for (Mapping *mapping = info->si_code > 0 ? mappings.load() : nullptr; mapping; mapping = mapping->next) {
    const uintptr_t end = mapping->end.load();
    if (address < mapping->begin.load() || address >= end) continue;
    mapping->lost.store(true);
    const uintptr_t page = address / page_size.load() * page_size.load();
    const bool mapped = map_zeros(page, end - page);
    errno = error;
    if (mapped) return; /* the instruction is repeated, and reads zeros */
  }
  leave(signal, info, context);
}

bool is_ours(const struct sigaction &action) { return action.sa_flags & SA_SIGINFO && action.sa_sigaction == on_bus_error; }

}  // namespace

ReadGuard::ReadGuard() {
  const std::lock_guard<std::mutex> lock(short_mutex());
  if (guards++ || buried) return;
  struct sigaction found, own {};
  if (::sigaction(SIGBUS, nullptr, &found) != 0 || is_ours(found)) return;
  previous = found;
  own.sa_sigaction = on_bus_error;
  own.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGBUS, &own, nullptr);
}

ReadGuard::~ReadGuard() {
  const std::lock_guard<std::mutex> lock(short_mutex());
  if (--guards) return;
  struct sigaction found;
  if (::sigaction(SIGBUS, nullptr, &found) != 0) return;
  buried = !is_ours(found); /* it may call this handler, so what was there before is still needed */
  if (!buried) ::sigaction(SIGBUS, &previous, nullptr);
}

bool MappedFile::Identity::operator==(const Identity &other) const {
  return device == other.device && number == other.number && size == other.size && seconds == other.seconds &&
         nanoseconds == other.nanoseconds;
}

MappedFile::MappedFile(const std::string &path, Kind kind) : path_(path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* O_NONBLOCK: do not wait for a pipe */
  if (file < 0) fail(EK_BAD_FILE, "cannot open %s: %s", path.c_str(), std::strerror(errno));
  try {
    map(file, kind);
  } catch (...) {
    if (file_ >= 0) ::munmap(const_cast<uint8_t *>(data_), size_);
    ::close(file);
    throw;
  }
}

void MappedFile::map(int file, Kind kind) {
  struct stat status;
  if (::fstat(file, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0)
    fail(EK_BAD_FILE, "cannot open %s: it is empty or not a regular file", path_.c_str());
  size_ = static_cast<uint64_t>(status.st_size);
  identity_ = {static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino), size_, 0, 0};
#if defined(__APPLE__)
  const timespec written = status.st_mtimespec;
#else
  const timespec written = status.st_mtim;
#endif
  identity_.seconds = static_cast<int64_t>(written.tv_sec);
  identity_.nanoseconds = static_cast<int64_t>(written.tv_nsec);
  const int flags = kind == kCopied ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  const int writes = kind == kCopied ? PROT_READ | PROT_WRITE : PROT_READ;
  void *at = ::mmap(nullptr, size_, writes, flags, kind == kCopied ? -1 : file, 0);
  if (at == MAP_FAILED)
    fail(errno == ENOMEM ? EK_NO_MEMORY : EK_BAD_FILE, "cannot map %s: %s", path_.c_str(), std::strerror(errno));
  data_ = static_cast<const uint8_t *>(at);
  file_ = file; /* from here on the destructor, or who catches, unmaps it */
  if (kind == kMapped) {
    mapping_ = register_mapping(data_, size_);
    return;
  }
  for (uint64_t done = 0; done < size_;) {
    const ssize_t count = ::read(file, static_cast<uint8_t *>(at) + done, std::min<uint64_t>(size_ - done, 1 << 30));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail(EK_BAD_FILE, "cannot read %s: %s", path_.c_str(), count ? std::strerror(errno) : "it was cut");
    done += static_cast<uint64_t>(count);
  }
}

void MappedFile::copy(uint64_t at, uint8_t *to, size_t count) const {
  if (file_ < 0) {
    std::memcpy(to, data_ + at, count);
    return;
  }
  while (count) {
    const ssize_t some = ::pread(file_, to, count, static_cast<off_t>(at));
    if (some < 0 && errno == EINTR) continue;
    if (some <= 0) fail(EK_BAD_FILE, "cannot read %s: %s", path_.c_str(), some ? std::strerror(errno) : "it was cut");
    at += static_cast<uint64_t>(some), to += some, count -= static_cast<size_t>(some);
  }
}

MappedFile::~MappedFile() {
  if (file_ < 0) return;
  if (mapping_) {
    const std::lock_guard<std::mutex> lock(short_mutex());
    mapping_->begin.store(UINTPTR_MAX);
    mapping_->end.store(0);
  }
  ::munmap(const_cast<uint8_t *>(data_), size_);
  ::close(file_);
}

bool MappedFile::is_lost() const { return mapping_ && mapping_->lost.load(std::memory_order_relaxed); }

void MappedFile::check() const {
  if (!mapping_) return;
  struct stat status;
  if (::fstat(file_, &status) == 0 && static_cast<uint64_t>(status.st_size) < size_)
    fail(EK_BAD_FILE, "cannot use %s: it was cut from %" PRIu64 " to %" PRId64 " bytes while it was open. Restore it and open it again",
         path_.c_str(), size_, static_cast<int64_t>(status.st_size));
  if (is_lost())
    fail(EK_BAD_FILE, "cannot use %s: a part of it could not be read, because the disk failed or the file was cut. Open it again",
         path_.c_str());
}

}  // namespace ek
