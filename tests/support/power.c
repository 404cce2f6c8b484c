/* Records what a process does to the files below a folder, for power_cuts.py: loaded with LD_PRELOAD.
 *
 *   POWER_LOG   the file that receives the records
 *
 * A record: 40 bytes {char kind; 3 unused; uint32 name1, name2 (lengths); uint64 a, b, offset or size; } then the names or
 * the data. Files are named by their inode numbers, folders too. All processes append to one log; an operation and its record
 * are made under one lock, so their order is that of the log.
 *
 *   C  created: a folder, b file, name           M  made a folder: as C          U  removed: a folder, name
 *   R  renamed: a folder, b other folder, two names; X: the two exchanged        L  linked: as C
 *   W  written: a file, offset, data             T  cut or extended: a file, size   S  synced: a file or folder
 */
#define _GNU_SOURCE
#include <stdio.h> /* RENAME_EXCHANGE */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct record {
  char kind, unused[3];
  uint32_t first, second, unused2;
  uint64_t a, b, at;
};

static pthread_mutex_t threads = PTHREAD_MUTEX_INITIALIZER;
static int log_file = -2;

/* Other processes are kept out by a lock on the log, which each thread's process opens for itself. */
static void begin(void) {
  pthread_mutex_lock(&threads);
  if (log_file == -2) {
    const char *path = getenv("POWER_LOG");
    log_file = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
  }
  if (log_file >= 0) flock(log_file, LOCK_EX);
}

static void end(void) {
  const int kept = errno;
  if (log_file >= 0) flock(log_file, LOCK_UN);
  errno = kept;
  pthread_mutex_unlock(&threads);
}

static void put(char kind, uint64_t a, uint64_t b, uint64_t at, const void *first, size_t n1, const void *second, size_t n2) {
  if (log_file < 0) return;
  const int kept = errno;
  struct record head = {kind, {0}, (uint32_t)n1, (uint32_t)n2, 0, a, b, at};
  struct iovec parts[3] = {{&head, sizeof head}, {(void *)first, n1}, {(void *)second, n2}};
  syscall(SYS_writev, log_file, parts, 3);
  errno = kept;
}

static uint64_t inode_at(int folder, const char *path, int flags) {
  struct stat status;
  const int kept = errno;
  const int found = fstatat(folder, path, &status, flags);
  errno = kept;
  return found == 0 ? status.st_ino : 0;
}

static uint64_t inode_of(int file) {
  struct stat status;
  const int kept = errno;
  const int found = fstat(file, &status);
  errno = kept;
  return found == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) ? status.st_ino : 0;
}

/* The folder of a path, and the last part of it. */
static uint64_t parent(int folder, const char *path, const char **name) {
  char above[PATH_MAX];
  const char *slash = strrchr(path, '/');
  *name = slash ? slash + 1 : path;
  if (!slash) return inode_at(folder, folder == AT_FDCWD ? "." : "", folder == AT_FDCWD ? 0 : AT_EMPTY_PATH);
  size_t length = slash == path ? 1 : (size_t)(slash - path);
  if (length >= sizeof above) return 0;
  memcpy(above, path, length);
  above[length] = 0;
  return inode_at(folder, above, 0);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int opened(int folder, const char *path, int flags, mode_t mode) {
  const char *name;
  if (!(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE)
    return (int)syscall(SYS_openat, folder, path, flags, mode);
  begin();
  const int there = inode_at(folder, path, 0) != 0;
  const int file = (int)syscall(SYS_openat, folder, path, flags, mode);
  if (file >= 0 && inode_of(file)) {
    const uint64_t above = parent(folder, path, &name);
    if (!there) put('C', above, inode_of(file), 0, name, strlen(name), 0, 0);
    else if (flags & O_TRUNC) put('T', inode_of(file), 0, 0, 0, 0, 0, 0);
  }
  end();
  return file;
}

#define MODE(flags, last)               \
  mode_t mode = 0;                      \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list more;                       \
    va_start(more, last);               \
    mode = va_arg(more, mode_t);        \
    va_end(more);                       \
  }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags, flags) return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags, flags) return opened(folder, path, flags, mode); }

static ssize_t written(int file, const void *data, size_t count, off_t offset, int positioned) {
  const uint64_t inode = inode_of(file);
  if (!inode) return positioned ? syscall(SYS_pwrite64, file, data, count, offset) : syscall(SYS_write, file, data, count);
  begin();
  if (!positioned) offset = fcntl(file, F_GETFL) & O_APPEND ? lseek(file, 0, SEEK_END) : lseek(file, 0, SEEK_CUR);
  const ssize_t done = positioned ? syscall(SYS_pwrite64, file, data, count, offset) : syscall(SYS_write, file, data, count);
  if (done > 0) put('W', inode, 0, (uint64_t)offset, data, (size_t)done, 0, 0);
  end();
  return done;
}

ssize_t write(int file, const void *data, size_t count) { return written(file, data, count, 0, 0); }
ssize_t pwrite(int file, const void *data, size_t count, off_t offset) { return written(file, data, count, offset, 1); }
ssize_t pwrite64(int file, const void *data, size_t count, off_t offset) { return written(file, data, count, offset, 1); }

/* Copies inside the kernel are refused: callers then read and write, which is recorded. */
ssize_t copy_file_range(int a, off64_t *b, int c, off64_t *d, size_t e, unsigned f) {
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  errno = ENOSYS;
  return -1;
}
ssize_t sendfile(int a, int b, off_t *c, size_t d) { (void)a, (void)b, (void)c, (void)d; errno = ENOTSOCK; return -1; }
ssize_t sendfile64(int a, int b, off_t *c, size_t d) { return sendfile(a, b, c, d); }

static int sized(int file, off_t size, int result) {
  if (result == 0) put('T', inode_of(file), 0, (uint64_t)size, 0, 0, 0, 0);
  end();
  return result;
}

int ftruncate(int file, off_t size) { begin(); return sized(file, size, (int)syscall(SYS_ftruncate, file, size)); }
int ftruncate64(int file, off_t size) { return ftruncate(file, size); }
int posix_fallocate(int file, off_t offset, off_t length) { begin(); return sized(file, offset + length, REAL(posix_fallocate)(file, offset, length)); }
int posix_fallocate64(int file, off_t offset, off_t length) { return posix_fallocate(file, offset, length); }

static int synced(int file, int result) {
  if (result == 0) put('S', inode_of(file), 0, 0, 0, 0, 0, 0);
  end();
  return result;
}

int fsync(int file) { begin(); return synced(file, (int)syscall(SYS_fsync, file)); }
int fdatasync(int file) { begin(); return synced(file, (int)syscall(SYS_fdatasync, file)); }

static int renamed(int from, const char *old, int to, const char *new, unsigned flags) {
  const char *first, *second;
  begin();
  const uint64_t a = parent(from, old, &first), b = parent(to, new, &second);
  const int result = (int)syscall(SYS_renameat2, from, old, to, new, flags);
  if (result == 0) put(flags & RENAME_EXCHANGE ? 'X' : 'R', a, b, 0, first, strlen(first), second, strlen(second));
  end();
  return result;
}

int rename(const char *old, const char *new) { return renamed(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return renamed(from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) { return renamed(from, old, to, new, flags); }

static int removed(int folder, const char *path, int flags) {
  const char *name;
  begin();
  const uint64_t above = parent(folder, path, &name);
  const int result = (int)syscall(SYS_unlinkat, folder, path, flags);
  if (result == 0) put('U', above, 0, 0, name, strlen(name), 0, 0);
  end();
  return result;
}

int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return removed(folder, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

static int made(int folder, const char *path, mode_t mode) {
  const char *name;
  begin();
  const int result = (int)syscall(SYS_mkdirat, folder, path, mode);
  if (result == 0) {
    const uint64_t above = parent(folder, path, &name);
    put('M', above, inode_at(folder, path, 0), 0, name, strlen(name), 0, 0);
  }
  end();
  return result;
}

int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return made(folder, path, mode); }

static int linked(int from, const char *old, int to, const char *new, int flags) {
  const char *name;
  begin();
  const uint64_t inode = inode_at(from, old, flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW);
  const int result = (int)syscall(SYS_linkat, from, old, to, new, flags);
  if (result == 0) {
    const uint64_t above = parent(to, new, &name);
    put('L', above, inode, 0, name, strlen(name), 0, 0);
  }
  end();
  return result;
}

int link(const char *old, const char *new) { return linked(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags) { return linked(from, old, to, new, flags); }
