/* A file that gets its name when it is complete, so that a reader, or whoever looks after a crash, finds the old content or the new. */
#ifndef EDGEKIT_SRC_REPLACED_FILE_H
#define EDGEKIT_SRC_REPLACED_FILE_H

#include <cstdio>
#include <string>

namespace ek {

/* Writers of the same path do not share anything: each one has a file of its own beside it, .NAME.saving-XXXXXX, and the last one
 * that finishes wins. The file is locked (flock) while it is written. A killed writer leaves its file behind; the next one of the
 * same path removes what nobody has locked. */
class ReplacedFile {
 public:
  /* path: if it is a link, what it leads to is replaced. The permissions of a file that is replaced are kept; a new one is readable
   * and writable by its owner alone. Throws Error: EK_BAD_FILE, EK_NO_MEMORY. */
  explicit ReplacedFile(const std::string &path);
  /* Removes what has not got its name. */
  ~ReplacedFile();
  ReplacedFile(const ReplacedFile &) = delete;
  ReplacedFile &operator=(const ReplacedFile &) = delete;

  std::FILE *stream() const { return file_; }
  /* Close the file and give it its name. A file that it replaces is gone only when the new content is on the disk. false: errno
   * says why; nothing is replaced. */
  bool finish();

 private:
  std::string path_, part_;
  std::FILE *file_ = nullptr;
  int lock_ = -1; /* a second descriptor, which keeps the lock while the file gets its name */
  bool replaces_ = false;
};

}  // namespace ek

#endif
