/* Reads one float32 or float16 from a mapped array; not optimized. */
#ifndef EDGEKIT_SRC_HALF_H
#define EDGEKIT_SRC_HALF_H

#include <cmath>
#include <cstdint>
#include <cstring>

namespace ek {

inline float read_float(const void *array, int64_t index, bool half) {
  if (!half) {
    float value;
    std::memcpy(&value, static_cast<const uint8_t *>(array) + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, static_cast<const uint8_t *>(array) + index * 2, 2);
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const float magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                          : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                          : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

}  // namespace ek

#endif
