/* Saves a session to a file and loads it again, so that a long prompt is evaluated only once:
 *
 *   offset  bytes
 *        0      8   "EKSTATE4"
 *        8      8   fingerprint of the model, little-endian like all that follows
 *       16      4   key-value type (ek_kv_type)
 *       20      4   zero
 *       24      8   n, positions
 *       32    4 n   token ids, int32
 *           ...     the first n positions of the cache, as KvCache writes them; nothing of later positions
 *                8   checksum of all that comes before
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <memory>
#include <string>

#include "error.h"
#include "replaced_file.h"
#include "session.h"

namespace ek {
namespace {

struct Header {
  char magic[8];
  uint64_t fingerprint;
  int32_t kv_type, zero;
  int64_t positions;
};
static_assert(sizeof(Header) == 32, "the header is drawn above");
constexpr char kMagic[] = "EKSTATE4";
constexpr size_t kMagicSize = 7; /* the version follows */
constexpr int64_t kMostPositions = int64_t{1} << 32; /* the bytes of more, which no context holds, could overflow */

struct Close {
  void operator()(std::FILE *file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

/* Opens what is there. Does not wait for the other end of a pipe; one that is written to is then written to as usual. */
File open_file(const std::string &path, bool write) {
  const int opened = ::open(path.c_str(), (write ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
  std::FILE *file = opened < 0 ? nullptr : ::fdopen(opened, write ? "wb" : "rb");
  if (!file) {
    const int error = errno;
    if (opened >= 0) ::close(opened);
    fail(error == ENOMEM ? EK_NO_MEMORY : EK_BAD_FILE, "cannot open %s: %s", path.c_str(), std::strerror(error));
  }
  ::fcntl(opened, F_SETFL, ::fcntl(opened, F_GETFL) & ~O_NONBLOCK);
  return File(file);
}

/* The size of a regular file, 0 for anything else. Throws Error for a pipe. */
uint64_t size_of(std::FILE *file, const char *path) {
  struct stat status {};
  if (::fstat(::fileno(file), &status) != 0) return 0;
  if (S_ISFIFO(status.st_mode)) fail(EK_BAD_FILE, "cannot load %s: it is a pipe, not a file", path);
  return S_ISREG(status.st_mode) ? static_cast<uint64_t>(status.st_size) : 0;
}

/* While one exists, writing to a pipe that nobody reads fails with EPIPE, and raises no signal in this thread. */
class BrokenPipes {
 public:
#ifdef F_SETNOSIGPIPE
  explicit BrokenPipes(std::FILE *file) { ::fcntl(::fileno(file), F_SETNOSIGPIPE, 1); }
#else
  explicit BrokenPipes(std::FILE *) {
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    was_pending_ = pending();
    ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~BrokenPipes() {
    int signal;
    if (!was_pending_ && pending()) ::sigwait(&pipe_, &signal);
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  static bool pending() {
    sigset_t signals;
    return ::sigpending(&signals) == 0 && ::sigismember(&signals, SIGPIPE) == 1;
  }
  sigset_t pipe_, before_;
  bool was_pending_;
#endif
};

}  // namespace

void Session::copy(const Session &other) {
  if (&other == this) return;
  if (other.model_->fingerprint != model_->fingerprint)
    fail(EK_BAD_ARGUMENT, "cannot copy the session: the source belongs to another model");
  if (other.cache_.type() != cache_.type())
    fail(EK_BAD_ARGUMENT,
         "cannot copy the session: its key-value type is %d, that of the source is %d", static_cast<int>(cache_.type()),
         static_cast<int>(other.cache_.type()));
  if (other.position() > context())
    fail(EK_CONTEXT,
         "cannot copy the session: its %" PRId64 " positions do not fit into a context of %" PRId64,
         other.position(), context());
  cache_.copy(other.cache_, other.position()); /* allocates before it changes anything */
  rewind(0);
  append(other.ids_.data(), other.position());
}

bool Session::write(std::FILE *file) const {
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  header.fingerprint = model_->fingerprint;
  header.kv_type = static_cast<int32_t>(cache_.type());
  header.positions = position();
  Checksum sum;
  sum.add(&header, sizeof header);
  sum.add(ids_.data(), sizeof(int32_t) * ids_.size());
  if (std::fwrite(&header, sizeof header, 1, file) != 1 || std::fwrite(ids_.data(), sizeof(int32_t), ids_.size(), file) != ids_.size() ||
      !cache_.write(file, position(), sum))
    return false;
  const uint64_t value = sum.value();
  return std::fwrite(&value, sizeof value, 1, file) == 1;
}

void Session::save(const std::string &path) const {
  struct stat status;
  int error = 0;
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) { /* such as a pipe: it is written to directly */
    File out = open_file(path, true);
    const BrokenPipes ignored(out.get());
    const bool written = write(out.get()) && std::fflush(out.get()) == 0;
    error = errno;
    if (std::fclose(out.release()) == 0 && written) return;
    if (written) error = errno;
  } else {
    ReplacedFile out(path);
    if (write(out.stream()) && out.finish()) return;
    error = errno;
  }
  fail(EK_BAD_FILE, "cannot write %s: %s", path.c_str(), std::strerror(error));
}

void Session::load(const std::string &path) {
  const char *file = path.c_str();
  const File opened = open_file(path, false);
  std::FILE *in = opened.get();
  const uint64_t file_size = size_of(in, file);
  Header header;
  if (std::fread(&header, sizeof header, 1, in) != 1 || std::memcmp(header.magic, kMagic, kMagicSize) != 0)
    fail(EK_BAD_FILE, "cannot load %s: it is not a saved session", file);
  if (header.magic[kMagicSize] != kMagic[kMagicSize])
    fail(EK_UNSUPPORTED, "cannot load %s: another version of edgekit saved it, in format %d; this version reads format %c", file,
         header.magic[kMagicSize] - '0', kMagic[kMagicSize]);
  if (header.fingerprint != model_->fingerprint) fail(EK_BAD_FILE, "cannot load %s: it belongs to another model", file);
  if (header.kv_type != static_cast<int32_t>(cache_.type()))
    fail(EK_BAD_FILE, "cannot load %s: its key-value type is %d, that of this session is %d", file, header.kv_type,
         static_cast<int>(cache_.type()));
  if (header.positions < 0 || header.positions > kMostPositions ||
      (file_size && static_cast<uint64_t>(header.positions) > file_size / sizeof(int32_t)))
    fail(EK_BAD_FILE, "cannot load %s: it has %" PRIu64 " bytes, but names %" PRId64 " positions, so it is truncated or damaged", file,
         file_size, header.positions);
  uint64_t value = 0;
  const auto positions = static_cast<size_t>(header.positions);
  const uint64_t size = sizeof header + sizeof(int32_t) * positions + cache_.written_bytes(header.positions) + sizeof value;
  const auto need_size = [&](bool good) {
    if (!good)
      fail(EK_BAD_FILE, "cannot load %s: it has %" PRIu64 " bytes; a file with %" PRId64 " positions has %" PRIu64
           ", so it is truncated or damaged", file, file_size, header.positions, size);
  };
  need_size(!file_size || file_size == size);
  if (header.positions > context())
    fail(EK_CONTEXT, "cannot load %s: its %" PRId64 " positions do not fit into the context of %" PRId64, file, header.positions,
         context());
  std::vector<int32_t> ids(positions);
  rewind(0); /* from here on the cache is overwritten */
  Checksum sum;
  sum.add(&header, sizeof header);
  need_size(std::fread(ids.data(), sizeof(int32_t), ids.size(), in) == ids.size());
  sum.add(ids.data(), sizeof(int32_t) * ids.size());
  need_size(cache_.read(in, header.positions, sum) && std::fread(&value, sizeof value, 1, in) == 1);
  if (value != sum.value()) fail(EK_BAD_FILE, "cannot load %s: it is damaged, because its checksum is wrong", file);
  const bool known = std::all_of(ids.begin(), ids.end(), [&](int32_t id) { return id >= 0 && id < model_->vocab_size; });
  if (!known) fail(EK_BAD_FILE, "cannot load %s: it has token ids outside the vocabulary of %" PRId64, file, model_->vocab_size);
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  count_ids();
}

}  // namespace ek
