/* A rotation that spreads outliers: the Hadamard transform of a head, orthogonal and its own inverse.
 *
 * Keys have a few dimensions that are far larger than the rest, and one of them takes all of an int8 scale. Rotated, every
 * dimension carries a share of it; a score, the product of a query and a key, stays what it was when both are rotated
 * (QuaRot, https://arxiv.org/abs/2404.00456, section 4). A head is n = p * rest numbers with p the largest power of two
 * that divides it: each run of p is transformed by itself. */
#ifndef EDGEKIT_SRC_HADAMARD_H
#define EDGEKIT_SRC_HADAMARD_H

#include <cmath>
#include <cstdint>

namespace ek {

inline void hadamard(float *x, int64_t n) {
  const int64_t p = n & -n;
  for (int64_t half = 1; half < p; half *= 2)
    for (int64_t at = 0; at < n; at += 2 * half)
      for (int64_t i = at; i < at + half; ++i) {
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
  const float norm = 1.0f / std::sqrt(static_cast<float>(p));
  for (int64_t i = 0; i < n; ++i) x[i] *= norm;
}

}  // namespace ek

#endif
