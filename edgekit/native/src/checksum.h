/* A checksum of bytes that are written or read one range after another. It finds damage, not forgery. */
#ifndef EDGEKIT_SRC_CHECKSUM_H
#define EDGEKIT_SRC_CHECKSUM_H

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ek {

class Checksum {
 public:
  /* The same ranges give the same value; the end of a range counts. */
  void add(const void *bytes, size_t count) {
    const auto *at = static_cast<const uint8_t *>(bytes);
    for (; count >= 8; at += 8, count -= 8) {
      uint64_t word;
      std::memcpy(&word, at, 8);
      mix(word);
    }
    uint64_t rest = 0x80;
    for (size_t i = 0; i < count; ++i) rest = rest << 8 | at[i];
    mix(rest);
  }
  uint64_t value() const { return state_; }

 private:
  void mix(uint64_t word) {
    state_ = (state_ ^ word) * 0x9E3779B97F4A7C15u;
    state_ ^= state_ >> 29;
  }
  uint64_t state_ = 0x6A09E667F3BCC908u;
};

}  // namespace ek

#endif
