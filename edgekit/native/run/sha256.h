/* SHA-256 (FIPS 180-4). */
#ifndef EDGEKIT_RUN_SHA256_H
#define EDGEKIT_RUN_SHA256_H

#include <cstddef>
#include <cstdint>
#include <string>

namespace run {

class Sha256 {
 public:
  void add(const void *data, size_t bytes);
  /* The digest in hexadecimal. Nothing can be added afterwards. */
  std::string finish();

 private:
  void block(const unsigned char *data);

  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  unsigned char pending_[64];
  uint64_t bytes_ = 0;
};

}  // namespace run

#endif
