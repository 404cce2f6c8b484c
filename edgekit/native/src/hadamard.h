/* A rotation that spreads outliers: the Hadamard transform of a head. It is orthogonal and its own inverse.
 *
 * A few dimensions of keys are far larger than the others, and a single one would determine the int8 scale. The transform
 * distributes it over all dimensions. A score, the dot product of a query and a key, does not change if both are rotated
 * (QuaRot, https://arxiv.org/abs/2404.00456, section 4). For a head of n numbers, p is the largest power of two that divides
 * n, and each run of p numbers is transformed separately. */
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
