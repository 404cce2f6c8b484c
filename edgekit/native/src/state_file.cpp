/* Saves a session to a file and loads it again, so that a long prompt is evaluated only once:
 *
 *   offset  bytes
 *        0      8   "EKSTATE3"
 *        8      8   fingerprint of the model, little-endian like all that follows
 *       16      4   key-value type (ek_kv_type)
 *       20      4   zero
 *       24      8   n, positions
 *       32    4 n   token ids, int32
 *           ...     the first n positions of the cache, as KvCache writes them
 *                8   checksum of all that comes before
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <string>

#include "error.h"
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
constexpr char kMagic[] = "EKSTATE3";
constexpr size_t kMagicSize = 7; /* the version follows */

struct File {
  std::FILE *file;
  uint64_t size = 0; /* of a regular file that is read */
  /* Does not wait for the other end of a pipe. */
  File(const std::string &path, bool write) : file(nullptr) {
    const int flags = (write ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY) | O_NONBLOCK | O_CLOEXEC;
    const int opened = ::open(path.c_str(), flags, 0666);
    if (opened >= 0) file = ::fdopen(opened, write ? "wb" : "rb");
    if (!file) {
      const int error = errno;
      struct stat made;
      if (opened >= 0) {
        if (write && ::fstat(opened, &made) == 0 && S_ISREG(made.st_mode)) ::unlink(path.c_str());
        ::close(opened);
      }
      fail(error == ENOMEM ? EK_NO_MEMORY : EK_BAD_FILE, "cannot open %s: %s", path.c_str(), std::strerror(error));
    }
    struct stat status {};
    if (!write && ::fstat(opened, &status) == 0 && S_ISFIFO(status.st_mode)) {
      std::fclose(file);
      fail(EK_BAD_FILE, "cannot load %s: it is a pipe, not a file", path.c_str());
    }
    size = !write && S_ISREG(status.st_mode) ? static_cast<uint64_t>(status.st_size) : 0;
    ::fcntl(opened, F_SETFL, ::fcntl(opened, F_GETFL) & ~O_NONBLOCK); /* a pipe that is read is written to as usual */
  }
  ~File() {
    if (file) std::fclose(file);
  }
  File(const File &) = delete;
  File &operator=(const File &) = delete;
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

void Session::save(const std::string &path) const {
  /* A failed save must not damage an existing file. A special file, such as a pipe, is written to directly. */
  struct stat status;
  const bool exists = ::stat(path.c_str(), &status) == 0, special = exists && !S_ISREG(status.st_mode);
  const std::string part = special ? path : path + ".part";
  File out(part, true);
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  header.fingerprint = model_->fingerprint;
  header.kv_type = static_cast<int32_t>(cache_.type());
  header.positions = position();
  Checksum sum;
  sum.add(&header, sizeof header);
  sum.add(ids_.data(), sizeof(int32_t) * ids_.size());
  const bool written = std::fwrite(&header, sizeof header, 1, out.file) == 1 &&
                       std::fwrite(ids_.data(), sizeof(int32_t), ids_.size(), out.file) == ids_.size() &&
                       cache_.write(out.file, position(), sum);
  const uint64_t value = sum.value();
  /* The file that is replaced is gone only when this one is on the disk. */
  const bool whole = written && std::fwrite(&value, sizeof value, 1, out.file) == 1 && std::fflush(out.file) == 0 &&
                     (!exists || special || ::fsync(::fileno(out.file)) == 0);
  const bool closed = std::fclose(out.file) == 0;
  out.file = nullptr;
  if (whole && closed && (special || std::rename(part.c_str(), path.c_str()) == 0)) return;
  const int error = errno;
  if (!special) std::remove(part.c_str());
  fail(EK_BAD_FILE, "cannot write %s: %s", path.c_str(), std::strerror(error));
}

void Session::load(const std::string &path) {
  File in(path, false);
  const char *file = path.c_str();
  Header header;
  if (std::fread(&header, sizeof header, 1, in.file) != 1 || std::memcmp(header.magic, kMagic, kMagicSize) != 0)
    fail(EK_BAD_FILE, "cannot load %s: it is not a saved session", file);
  if (header.magic[kMagicSize] != kMagic[kMagicSize])
    fail(EK_UNSUPPORTED, "cannot load %s: another version of edgekit saved it, in format %d; this version reads format %c", file,
         header.magic[kMagicSize] - '0', kMagic[kMagicSize]);
  if (header.fingerprint != model_->fingerprint) fail(EK_BAD_FILE, "cannot load %s: it belongs to another model", file);
  if (header.kv_type != static_cast<int32_t>(cache_.type()))
    fail(EK_BAD_FILE, "cannot load %s: its key-value type is %d, that of this session is %d", file, header.kv_type,
         static_cast<int>(cache_.type()));
  if (header.positions < 0 || header.positions > context())
    fail(EK_CONTEXT, "cannot load %s: its %" PRId64 " positions do not fit into the context of %" PRId64, file, header.positions,
         context());
  std::vector<int32_t> ids(static_cast<size_t>(header.positions));
  uint64_t value = 0;
  const uint64_t size = sizeof header + sizeof(int32_t) * ids.size() + cache_.written_bytes(header.positions) + sizeof value;
  const auto need_size = [&](bool good) {
    if (!good)
      fail(EK_BAD_FILE, "cannot load %s: it has %" PRIu64 " bytes; a file with %" PRId64 " positions has %" PRIu64
           ", so it is truncated or damaged", file, in.size, header.positions, size);
  };
  need_size(!in.size || in.size == size);
  rewind(0); /* from here on the cache is overwritten */
  Checksum sum;
  sum.add(&header, sizeof header);
  need_size(std::fread(ids.data(), sizeof(int32_t), ids.size(), in.file) == ids.size());
  sum.add(ids.data(), sizeof(int32_t) * ids.size());
  need_size(cache_.read(in.file, header.positions, sum) && std::fread(&value, sizeof value, 1, in.file) == 1);
  if (value != sum.value()) fail(EK_BAD_FILE, "cannot load %s: it is damaged, because its checksum is wrong", file);
  const bool known = std::all_of(ids.begin(), ids.end(), [&](int32_t id) { return id >= 0 && id < model_->vocab_size; });
  if (!known) fail(EK_BAD_FILE, "cannot load %s: it has token ids outside the vocabulary of %" PRId64, file, model_->vocab_size);
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  count_ids();
}

}  // namespace ek
