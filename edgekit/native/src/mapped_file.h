/* The bytes of a file of an artifact, and what happens if the file becomes shorter while it is mapped. */
#ifndef EDGEKIT_SRC_MAPPED_FILE_H
#define EDGEKIT_SRC_MAPPED_FILE_H

#include <cstdint>
#include <string>

namespace ek {

struct Mapping;

/* A file mapped for reading, a copy of a file, or bytes owned by the caller.
 *
 * Reading a part of a mapped file that has been cut off since, or that the disk fails to read, raises SIGBUS. During a
 * ReadGuard such a part reads as zeros, and check() tells. Artifacts must be replaced as a whole, by renaming. */
class MappedFile {
 public:
  /* What tells a file from others, and from what it was before it was written to. */
  struct Identity {
    uint64_t device = 0, number = 0, size = 0;
    int64_t seconds = 0, nanoseconds = 0; /* when it was last written to */
    bool operator==(const Identity &other) const;
  };
  enum Kind { kMapped, kCopied }; /* a copy is for small files whose contents decide about addresses and loops */

  explicit MappedFile(const std::string &path, Kind kind = kMapped); /* throws Error: EK_BAD_FILE, EK_NO_MEMORY */
  MappedFile(const uint8_t *data, uint64_t size) : data_(data), size_(size) {}
  ~MappedFile();
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;
  const uint8_t *data() const { return data_; }
  uint64_t size() const { return size_; }
  const Identity &identity() const { return identity_; } /* all zero for bytes */

  /* Copy a part without touching the mapping, whose pages would count as memory of the process. The part must be inside of size().
   * Throws Error(EK_BAD_FILE). */
  void copy(uint64_t at, uint8_t *to, size_t count) const;

  /* Throws Error(EK_BAD_FILE) if the file is shorter than it was, or if a part of it could not be read. Takes less than 1 us. */
  void check() const;
  /* Whether a part of it could not be read. */
  bool is_lost() const;

 private:
  void map(int file, Kind kind);

  std::string path_;
  const uint8_t *data_ = nullptr;
  uint64_t size_ = 0;
  int file_ = -1;
  Mapping *mapping_ = nullptr;
  Identity identity_;
};

/* While one exists, in any thread, a handler of SIGBUS of this library is installed. It leaves all signals that do not come from
 * a MappedFile to the handler that was there before. */
class ReadGuard {
 public:
  ReadGuard();
  ~ReadGuard();
  ReadGuard(const ReadGuard &) = delete;
  ReadGuard &operator=(const ReadGuard &) = delete;
};

}  // namespace ek

#endif
