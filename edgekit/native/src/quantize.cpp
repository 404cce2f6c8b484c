/* Round-to-nearest quantization of weight rows with a least-squares search per block.
 *
 * A block x of up to 256 weights is stored as codes c, a scale s and a zero point z; a weight is s * (c - z). For a fixed
 * q = c - z, the error |x - s q|^2 is smallest at s = <x,q> / <q,q>, where it is |x|^2 - <x,q>^2 / <q,q>. The search tries a
 * list of (1/s, z), rounds and clamps, and keeps the candidate with the largest <x,q>^2 / <q,q>.
 *
 * Sixteen candidates are tried at once, one in each vector lane, so the search needs no sum across lanes.
 *
 * The result is the same on every ISA: sums have a fixed order, rounding to even adds 1.5 * 2^23, and the file is compiled
 * with -ffp-contract=off.
 */
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "clones.h"
#include "edgekit_tools.h"
#include "error.h"
#include "quantize.h"

namespace ek {
namespace {

constexpr int kLanes = 16;      /* one AVX-512 register of floats, two of AVX2, four of NEON */
constexpr int kMaxBlock = 256;  /* the largest block size of onnxruntime's fast kernels */
constexpr float kRound = 12582912.0f;  /* 1.5 * 2^23: adding and subtracting it rounds |v| < 2^22 to even */
constexpr float kTiny = 1e-30f; /* a block whose largest weight is below this is stored as zeros, so that 1/s is finite */

/* The largest weight allowed: above it, the sums of a block overflow (float32 scales) or its scale does (float16). */
constexpr float kLimit32 = 1e30f, kLimit16 = 65504.0f;

/* The candidates, tuned on the linears of SmolLM2-135M (tests/quantize/test_rtn.py checks the gain over absmax).
 * Symmetric: the weight with the largest magnitude is mapped to -level; a level below 2^(bits-1) leaves room, one above it
 * clips. Scales may be negative, so the longer, negative side of the codes always has the largest weight.
 * Asymmetric: the codes span one of 8 fractions of the range of the block, with the zero point rounded down or up. */
struct Grid {
  float first, step;
};
constexpr Grid kSymmetric4 = {-1.6f, 0.2f}; /* added to 8 */
constexpr Grid kSymmetric8 = {-2.0f, 0.2f}; /* added to 128 */
constexpr Grid kAsymmetric4 = {0.685f, 0.045f};
constexpr Grid kAsymmetric8 = {0.965f, 0.005f};

struct Candidates {
  float inverse[kLanes], low[kLanes], high[kLanes]; /* 1 / scale, and the limits of q = code - zero point */
  int zero_point[kLanes];
};

struct Block {
  float scale;
  int zero_point;
};

EK_INLINE float half_to_float(uint16_t h) {
  uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, bits = static_cast<uint32_t>(h & 0x7fffu) << 13;
  float magnitude;
  std::memcpy(&magnitude, &bits, 4);
  magnitude *= 5.192296858534828e+33f; /* 2^112 moves the exponent bias from 15 to 127, also for denormals */
  std::memcpy(&bits, &magnitude, 4);
  if ((h & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
  bits |= sign;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

EK_INLINE uint16_t float_to_half(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7bffu); /* the largest finite half, so that no scale is infinite */
  if (bits < 0x38800000u) {                                              /* below 2^-14: a denormal half */
    float magnitude, half = 0.5f;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += half; /* aligns the denormal's last bit with the float's, rounding to even */
    std::memcpy(&bits, &magnitude, 4);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  bits += 0xfffu + ((bits >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u) >> 13));
}

/* Read `count` weights as float and pad them with zeros to `padded`. Returns the index of the first weight that is NaN or
 * larger than `limit`, or -1. */
EK_INLINE int load(const void *rows, int dtype, int64_t at, int count, int padded, float limit, float *x) {
  if (dtype == EK_FLOAT32) {
    std::memcpy(x, static_cast<const float *>(rows) + at, sizeof(float) * static_cast<size_t>(count));
  } else if (dtype == EK_FLOAT16) {
    const uint16_t *h = static_cast<const uint16_t *>(rows) + at;
    for (int i = 0; i < count; ++i) x[i] = half_to_float(h[i]);
  } else {
    const uint16_t *h = static_cast<const uint16_t *>(rows) + at;
    for (int i = 0; i < count; ++i) {
      const uint32_t bits = static_cast<uint32_t>(h[i]) << 16;
      std::memcpy(x + i, &bits, 4);
    }
  }
  int good = 0;
  for (int i = 0; i < count; ++i) good += std::fabs(x[i]) <= limit ? 1 : 0; /* false for NaN */
  for (int i = count; i < padded; ++i) x[i] = 0.0f;
  if (good == count) return -1;
  int i = 0;
  while (std::fabs(x[i]) <= limit) ++i;
  return i;
}

EK_INLINE float round_and_clamp(float v, float low, float high) {
  v = (v + kRound) - kRound;
  v = v < low ? low : v;
  return v > high ? high : v;
}

EK_INLINE float add_lanes(float *lane) {
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  return lane[0];
}

/* The best scale for q = clamp(round(x * inverse), low, high); `otherwise` if every q is 0. */
EK_INLINE float fitted_scale(const float *x, int padded, float inverse, float low, float high, float otherwise) {
  float xq[kLanes] = {}, qq[kLanes] = {};
  for (int i = 0; i < padded; i += kLanes)
    for (int j = 0; j < kLanes; ++j) {
      const float q = round_and_clamp(x[i + j] * inverse, low, high);
      xq[j] += x[i + j] * q;
      qq[j] += q * q;
    }
  const float norm = add_lanes(qq);
  return norm > 0.0f ? add_lanes(xq) / norm : otherwise;
}

/* The best scale and the zero point of the candidate with the least squared error; the first one if several are equal. */
EK_INLINE Block best_of(const float *x, int count, const Candidates &candidates) {
  float xq[kLanes] = {}, qq[kLanes] = {};
  for (int i = 0; i < count; ++i)
    for (int j = 0; j < kLanes; ++j) {
      const float q = round_and_clamp(x[i] * candidates.inverse[j], candidates.low[j], candidates.high[j]);
      xq[j] += x[i] * q;
      qq[j] += q * q;
    }
  float best = -1.0f;
  Block block = {0.0f, candidates.zero_point[0]};
  for (int j = 0; j < kLanes; ++j) {
    if (!(qq[j] > 0.0f)) continue;
    const float gain = (xq[j] / qq[j]) * xq[j];
    if (gain > best) {
      best = gain;
      block = {xq[j] / qq[j], candidates.zero_point[j]};
    }
  }
  return block;
}

EK_INLINE Block search_symmetric(const float *x, int count, int bits) {
  float largest = 0.0f;
  for (int i = 0; i < count; ++i)
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  const int half = 1 << (bits - 1);
  if (std::fabs(largest) < kTiny) return {0.0f, half};
  const Grid grid = bits == 4 ? kSymmetric4 : kSymmetric8;
  Candidates candidates;
  for (int j = 0; j < kLanes; ++j) {
    const float level = static_cast<float>(half) + (grid.first + grid.step * static_cast<float>(j));
    candidates.inverse[j] = -level / largest;
    candidates.low[j] = static_cast<float>(-half);
    candidates.high[j] = static_cast<float>(half - 1);
    candidates.zero_point[j] = half;
  }
  return best_of(x, count, candidates);
}

EK_INLINE Block search_asymmetric(const float *x, int count, int bits) {
  float low = 0.0f, high = 0.0f; /* zero is always inside the range, because the zero point is a code */
  for (int i = 0; i < count; ++i) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  const int top = (1 << bits) - 1;
  const float range = high - low, steps = static_cast<float>(top);
  if (range < kTiny) return {0.0f, 0};
  const Grid grid = bits == 4 ? kAsymmetric4 : kAsymmetric8;
  const int below = static_cast<int>(-low / range * steps);
  Candidates candidates;
  for (int j = 0; j < kLanes; ++j) {
    const int zero_point = below + j % 2 < top ? below + j % 2 : top;
    candidates.inverse[j] = steps / (range * (grid.first + grid.step * static_cast<float>(j / 2)));
    candidates.low[j] = static_cast<float>(-zero_point);
    candidates.high[j] = static_cast<float>(top - zero_point);
    candidates.zero_point[j] = zero_point;
  }
  return best_of(x, count, candidates);
}

/* Round the weights with the scale of the block, refit the scale to the codes, and store it. Returns the stored scale. */
EK_INLINE float settle(const float *x, int padded, Block block, float top, int scale_dtype, int64_t at, void *scales) {
  float scale = block.scale;
  const float z = static_cast<float>(block.zero_point);
  if (std::fabs(scale) >= kTiny) scale = fitted_scale(x, padded, 1.0f / scale, -z, top - z, scale);
  if (scale_dtype == EK_FLOAT16) {
    const uint16_t half = float_to_half(scale);
    static_cast<uint16_t *>(scales)[at] = half;
    return half_to_float(half);
  }
  static_cast<float *>(scales)[at] = scale;
  return scale;
}

EK_INLINE void encode(const float *x, int count, int padded, float scale, int zero_point, float top, int bits,
                   uint8_t *codes) {
  const float inverse = std::fabs(scale) < kTiny ? 0.0f : 1.0f / scale, z = static_cast<float>(zero_point);
  uint8_t code[kMaxBlock];
  for (int i = 0; i < padded; ++i)
    code[i] = static_cast<uint8_t>(static_cast<int>(round_and_clamp(x[i] * inverse, -z, top - z) + z));
  for (int i = count; i < padded; ++i) code[i] = static_cast<uint8_t>(zero_point); /* the padding decodes to 0 */
  if (bits == 8) {
    std::memcpy(codes, code, static_cast<size_t>(padded));
    return;
  }
  for (int i = 0; i < padded / 2; ++i) codes[i] = static_cast<uint8_t>(code[2 * i] | (code[2 * i + 1] << 4));
}

EK_CLONES int64_t quantize(const QuantizeJob &job) {
  const int64_t blocks = (job.k + job.block_size - 1) / job.block_size;
  const int64_t zero_row = (blocks * job.bits + 7) / 8;
  const int blob = job.block_size * job.bits / 8;
  const float top = static_cast<float>((1 << job.bits) - 1);
  const float limit = job.scale_dtype == EK_FLOAT16 ? kLimit16 : kLimit32;
  alignas(64) float x[kMaxBlock];
  for (int64_t row = 0; row < job.n; ++row) {
    if (!job.symmetric) std::memset(job.zero_points + row * zero_row, 0, static_cast<size_t>(zero_row));
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t start = b * job.block_size, at = row * blocks + b;
      const int count = static_cast<int>(job.k - start < job.block_size ? job.k - start : job.block_size);
      const int bad = load(job.rows, job.dtype, row * job.k + start, count, job.block_size, limit, x);
      if (bad >= 0) return row * job.k + start + bad;
      const Block block = job.symmetric ? search_symmetric(x, count, job.bits) : search_asymmetric(x, count, job.bits);
      const float scale = settle(x, job.block_size, block, top, job.scale_dtype, at, job.scales);
      encode(x, count, job.block_size, scale, block.zero_point, top, job.bits, job.codes + at * blob);
      if (job.symmetric) continue;
      if (job.bits == 8)
        job.zero_points[at] = static_cast<uint8_t>(block.zero_point);
      else
        job.zero_points[row * zero_row + b / 2] |= static_cast<uint8_t>(block.zero_point << (b % 2 * 4));
    }
  }
  return -1;
}

}  // namespace

int64_t quantize_rows(const QuantizeJob &job) {
  if (job.n < 0 || job.k < 1)
    fail(EK_BAD_ARGUMENT, "cannot quantize a (%" PRId64 ", %" PRId64 ") matrix; allowed: 0 or more rows, 1 or more columns",
         job.n, job.k);
  if (job.bits != 4 && job.bits != 8) fail(EK_BAD_ARGUMENT, "cannot quantize to %d bits; allowed: 4 or 8", job.bits);
  if (job.block_size < kLanes || job.block_size > kMaxBlock || job.block_size % kLanes)
    fail(EK_BAD_ARGUMENT,
         "cannot quantize in blocks of %d; allowed: multiples of %d up to %d", job.block_size, kLanes, kMaxBlock);
  if (job.dtype != EK_FLOAT32 && job.dtype != EK_FLOAT16 && job.dtype != EK_BFLOAT16)
    fail(EK_BAD_ARGUMENT,
         "cannot quantize weights of type %d; allowed: EK_FLOAT32 (0), EK_FLOAT16 (1), EK_BFLOAT16 (2)", job.dtype);
  if (job.scale_dtype != EK_FLOAT32 && job.scale_dtype != EK_FLOAT16)
    fail(EK_BAD_ARGUMENT, "cannot store scales as type %d; allowed: EK_FLOAT32 (0) or EK_FLOAT16 (1)", job.scale_dtype);
  if (!job.symmetric && !job.zero_points) fail(EK_BAD_ARGUMENT, "asymmetric quantization needs zero_points, which is NULL");
  return quantize(job);
}

}  // namespace ek
