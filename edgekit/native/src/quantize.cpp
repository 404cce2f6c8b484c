/* Round-to-nearest quantization of weight rows with a least-squares search per block.
 *
 * A block x of up to 256 weights is stored as codes c, a scale s and a zero point z, read back as s * (c - z). With
 * q = c - z held fixed, the error |x - s q|^2 is least at s = <x,q> / <q,q> and is then |x|^2 - <x,q>^2 / <q,q>. So the
 * search tries a list of (1/s, z), rounds and clamps, and keeps the one with the largest <x,q>^2 / <q,q>.
 *
 * Reproducible on every ISA: 16 partial sums in a fixed order, round to even by adding 1.5 * 2^23, -ffp-contract=off.
 */
#include <cmath>
#include <cstdint>
#include <cstring>

#include "edgekit.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__) && !defined(EK_NO_CLONES)
#define EK_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EK_CLONES
#endif

namespace {

constexpr int kLanes = 16;      /* one AVX-512 register of floats, two of AVX2, four of NEON */
constexpr int kMaxBlock = 256;  /* the largest block size onnxruntime's fast kernels take */
constexpr float kRound = 12582912.0f;  /* 1.5 * 2^23: adding and subtracting it rounds |v| < 2^22 to even */
constexpr float kTiny = 1e-30f; /* a block whose largest weight is below this is stored as zeros: 1/s stays finite */

/* Largest weight taken: above it the sums of a block overflow (float32) or the block's scale does (float16). */
constexpr float kLimit32 = 1e30f, kLimit16 = 65504.0f;

/* Ends of the search, found on SmolLM2-135M's linears (tests/quantize/test_rtn.py holds the gain over absmax).
 * Symmetric: the largest weight is mapped to -level; below 2^(bits-1) leaves room, above it clips. A negative scale is
 * allowed, so the longer negative side of the codes always holds the largest weight. */
struct Grid {
  int steps;
  float first, step;
};
constexpr Grid kSymmetric4 = {19, -2.0f, 0.2f};  /* added to 8 */
constexpr Grid kSymmetric8 = {7, -1.5f, 0.5f};   /* added to 128 */
constexpr Grid kAsymmetric4 = {9, 0.64f, 0.045f}; /* fraction of the block's range that 15 steps span */
constexpr Grid kAsymmetric8 = {3, 0.98f, 0.01f};

struct Sums {
  float xq, qq;
};

struct Block {
  float scale;
  int zero_point;
};

inline float half_to_float(uint16_t h) {
  uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, bits = static_cast<uint32_t>(h & 0x7fffu) << 13;
  float magnitude;
  std::memcpy(&magnitude, &bits, 4);
  magnitude *= 5.192296858534828e+33f; /* 2^112: moves the exponent bias from 15 to 127, denormals included */
  std::memcpy(&bits, &magnitude, 4);
  if ((h & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
  bits |= sign;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

inline uint16_t float_to_half(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7bffu); /* largest finite half: no scale is infinite */
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

/* Read `count` weights as float and pad with zeros to `padded`; the index of the first beyond `limit` or NaN, or -1. */
inline int load(const void *rows, int dtype, int64_t at, int count, int padded, float limit, float *x) {
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

inline float clamp(float v, float low, float high) {
  v = v < low ? low : v;
  return v > high ? high : v;
}

inline float add_lanes(float *lane) {
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] += lane[i + width];
  return lane[0];
}

/* <x,q> and <q,q> for q = clamp(round(x * inverse), low, high); `padded` is a multiple of 16. */
inline Sums project(const float *x, int padded, float inverse, float low, float high) {
  float xq[kLanes] = {}, qq[kLanes] = {};
  for (int i = 0; i < padded; i += kLanes)
    for (int j = 0; j < kLanes; ++j) {
      const float v = x[i + j];
      const float q = clamp((v * inverse + kRound) - kRound, low, high);
      xq[j] += v * q;
      qq[j] += q * q;
    }
  return {add_lanes(xq), add_lanes(qq)};
}

struct Search {
  const float *x;
  int padded;
  float top; /* 2^bits - 1 */
  float best = -1.0f;
  Block block = {0.0f, 0};

  inline void attempt(float inverse, int zero_point) {
    const float z = static_cast<float>(zero_point);
    const Sums sums = project(x, padded, inverse, -z, top - z);
    if (!(sums.qq > 0.0f)) return;
    const float gain = (sums.xq / sums.qq) * sums.xq;
    if (gain > best) {
      best = gain;
      block = {sums.xq / sums.qq, zero_point};
    }
  }
};

inline Block search_symmetric(const float *x, int padded, int bits) {
  float largest = 0.0f;
  for (int i = 0; i < padded; ++i)
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  const int half = 1 << (bits - 1);
  if (std::fabs(largest) < kTiny) return {0.0f, half};
  Search search{x, padded, static_cast<float>(2 * half - 1)};
  const Grid grid = bits == 4 ? kSymmetric4 : kSymmetric8;
  for (int i = 0; i < grid.steps; ++i)
    search.attempt(-(static_cast<float>(half) + grid.first + grid.step * static_cast<float>(i)) / largest, half);
  return search.block;
}

inline Block search_asymmetric(const float *x, int padded, int bits) {
  float low = 0.0f, high = 0.0f; /* zero stays inside the range: the zero point is one of the codes */
  for (int i = 0; i < padded; ++i) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  const int top = (1 << bits) - 1;
  if (high - low < kTiny) return {0.0f, 0};
  Search search{x, padded, static_cast<float>(top)};
  const Grid grid = bits == 4 ? kAsymmetric4 : kAsymmetric8;
  const float exact = -low / (high - low) * static_cast<float>(top);
  const int floor_zero = static_cast<int>(exact);
  for (int i = 0; i < grid.steps; ++i) {
    const float span = (high - low) * (grid.first + grid.step * static_cast<float>(i));
    for (int z = floor_zero; z <= floor_zero + 1 && z <= top; ++z)
      search.attempt(static_cast<float>(top) / span, z);
  }
  return search.block;
}

/* Round to the scale found, refit the scale to the codes, and store it in its own type. Returns the scale as stored. */
inline float settle(const float *x, int padded, Block block, float top, int scale_dtype, int64_t at, void *scales) {
  float scale = block.scale;
  if (std::fabs(scale) >= kTiny) {
    const float z = static_cast<float>(block.zero_point);
    const Sums sums = project(x, padded, 1.0f / scale, -z, top - z);
    if (sums.qq > 0.0f) scale = sums.xq / sums.qq;
  }
  if (scale_dtype == EK_FLOAT16) {
    const uint16_t half = float_to_half(scale);
    static_cast<uint16_t *>(scales)[at] = half;
    return half_to_float(half);
  }
  static_cast<float *>(scales)[at] = scale;
  return scale;
}

inline void encode(const float *x, int count, int padded, float scale, int zero_point, float top, int bits,
                   uint8_t *codes) {
  const float inverse = std::fabs(scale) < kTiny ? 0.0f : 1.0f / scale, z = static_cast<float>(zero_point);
  uint8_t code[kMaxBlock];
  for (int i = 0; i < padded; ++i)
    code[i] = static_cast<uint8_t>(static_cast<int>(clamp((x[i] * inverse + kRound) - kRound, -z, top - z) + z));
  for (int i = count; i < padded; ++i) code[i] = static_cast<uint8_t>(zero_point); /* the padding reads back as 0 */
  if (bits == 8) {
    std::memcpy(codes, code, static_cast<size_t>(padded));
    return;
  }
  for (int i = 0; i < padded / 2; ++i) codes[i] = static_cast<uint8_t>(code[2 * i] | (code[2 * i + 1] << 4));
}

struct Job {
  const void *rows;
  int dtype;
  int64_t n, k;
  int bits, block_size;
  bool symmetric;
  int scale_dtype;
  uint8_t *codes;
  void *scales;
  uint8_t *zero_points;
};

EK_CLONES int64_t quantize(const Job &job) {
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
      const Block block = job.symmetric ? search_symmetric(x, job.block_size, job.bits)
                                        : search_asymmetric(x, job.block_size, job.bits);
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

int ek_abi_version(void) { return EK_ABI_VERSION; }

int ek_quantize_rows(const void *rows, int dtype, int64_t n, int64_t k, int bits, int block_size, int symmetric,
                     int scale_dtype, uint8_t *codes, void *scales, uint8_t *zero_points, int64_t *bad_index) {
  const bool sizes = n >= 0 && k > 0 && (bits == 4 || bits == 8) && block_size >= kLanes && block_size <= kMaxBlock &&
                     block_size % kLanes == 0;
  const bool types = (dtype == EK_FLOAT32 || dtype == EK_FLOAT16 || dtype == EK_BFLOAT16) &&
                     (scale_dtype == EK_FLOAT32 || scale_dtype == EK_FLOAT16);
  if (!sizes || !types || !rows || !codes || !scales || (!symmetric && !zero_points)) return EK_BAD_ARGUMENT;
  const int64_t bad =
      quantize({rows, dtype, n, k, bits, block_size, symmetric != 0, scale_dtype, codes, scales, zero_points});
  if (bad < 0) return EK_OK;
  if (bad_index) *bad_index = bad;
  return EK_NON_FINITE;
}
