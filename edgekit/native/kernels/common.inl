/* Source code shared by the kernel files. Each file includes it and compiles its own copy with its own flags.
 *
 * Everything here is static and uses vectors of one register. Before including it, a kernel file may define
 *
 *   EK_LANES             floats in a register (default: 4)
 *   EK_ADD_LANES(v)      the sum of the lanes of a register
 *   EK_OWN_CONVERSIONS   if the file provides half_lanes, byte_lanes, store_halves and round32 */
#include <cmath>
#include <cstring>

#include "kernels.h"

namespace {

using namespace ek;

#ifndef EK_LANES
#define EK_LANES 4
#endif
constexpr int kLanes = EK_LANES;

/* A register of floats. Never pass it to a function that is not inlined: the calling convention depends on the ISA. */
typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t IntVec __attribute__((vector_size(kLanes * sizeof(int32_t))));
#define EK_INLINE inline __attribute__((always_inline))

EK_INLINE Vec load(const float *x) {
  Vec v;
  std::memcpy(&v, x, sizeof v);
  return v;
}
EK_INLINE void store(Vec v, float *x) { std::memcpy(x, &v, sizeof v); }
EK_INLINE Vec larger(Vec a, Vec b) { return a > b ? a : b; }

inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  uint32_t bits = static_cast<uint32_t>(h & 0x7fffu) << 13;
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

inline uint16_t float_to_half(float f) { /* rounds to nearest even; overflows to infinity */
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (bits < 0x38800000u) {
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  bits += 0xfffu + ((bits >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u) >> 13));
}

#ifndef EK_OWN_CONVERSIONS
inline Vec half_lanes(const uint16_t *x) {
  float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = half_to_float(x[i]);
  return load(lanes);
}
inline Vec byte_lanes(const int8_t *x) {
  float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(x[i]);
  return load(lanes);
}
inline void store_halves(const float *x, int64_t n, uint16_t *y) {
  for (int64_t i = 0; i < n; ++i) y[i] = float_to_half(x[i]);
}
/* Multiply 32 numbers by `inverse`, round to int8 (to nearest even; magnitudes stay below 128), and return their sum. */
inline int32_t round32(const float *x, float inverse, int8_t *to) {
  int32_t sum = 0;
  for (int i = 0; i < 32; ++i) {
    const auto whole = static_cast<int32_t>(std::lrint(x[i] * inverse));
    to[i] = static_cast<int8_t>(whole);
    sum += whole;
  }
  return sum;
}
#endif
EK_INLINE Vec load(const uint16_t *x) { return (Vec)half_lanes(x); }
EK_INLINE Vec load(const int8_t *x) { return (Vec)byte_lanes(x); }

#ifndef EK_ADD_LANES
EK_INLINE float add_lanes(Vec v) {
  float sum[kLanes];
  store(v, sum);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) sum[i] += sum[i + width];
  return sum[0];
}
#else
EK_INLINE float add_lanes(Vec v) { return EK_ADD_LANES(v); }
#endif

EK_INLINE float largest_lane(Vec v) {
  float most[kLanes];
  store(v, most);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) most[i] = most[i] > most[i + width] ? most[i] : most[i + width];
  return most[0];
}

inline float dot(const float *a, const float *b, int64_t n) {
  Vec even = {}, odd = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    even += load(a + i) * load(b + i);
    odd += load(a + i + kLanes) * load(b + i + kLanes);
  }
  for (; i + kLanes <= n; i += kLanes) even += load(a + i) * load(b + i);
  float sum = add_lanes(even + odd);
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/* e^x for x <= 88, accurate to 2 units in the last place: 2^n from the exponent bits times the Taylor series of e^r,
 * |r| <= ln(2)/2. */
EK_INLINE Vec exponential(Vec x) {
  x = larger(x, Vec{} - 87.0f);
  x = x < 88.0f ? x : Vec{} + 88.0f;
  const Vec n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts, the first exact in 10 bits */
  Vec p = r * (1.0f / 5040.0f) + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const IntVec bits = (__builtin_convertvector(n, IntVec) + 127) << 23;
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

/* The format of a matrix as compile-time constants, so that inner loops have no branches. */
template <int kBitsOf, int kBlockOf>
struct Format {
  static constexpr int kBits = kBitsOf, kBlock = kBlockOf;
};

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

/* Call work(Format) with the format of the matrix. */
template <typename Work>
inline void with_format(const Matrix &w, Work work) {
  const auto with_block = [&](auto bits) {
    if (w.block == 32) work(Format<decltype(bits)::value, 32>{});
    else if (w.block == 64) work(Format<decltype(bits)::value, 64>{});
    else work(Format<decltype(bits)::value, 128>{});
  };
  if (w.bits == 4) with_block(Constant<4>{});
  else with_block(Constant<8>{});
}

inline float scale_at(const Matrix &w, int64_t i) {
  return w.half_scales ? half_to_float(static_cast<const uint16_t *>(w.scales)[i])
                       : static_cast<const float *>(w.scales)[i];
}

inline int zero_point_at(const Matrix &w, int64_t row, int64_t block) {
  if (!w.zero_points) return 1 << (w.bits - 1);
  if (w.bits == 8) return w.zero_points[row * w.blocks() + block];
  return w.zero_points[row * ((w.blocks() + 1) / 2) + block / 2] >> (block % 2 * 4) & 15;
}

/* Reorder every eight columns: the four even ones, then the four odd ones, as the nibbles of a dword of codes split. */
typedef int8_t Bytes16 __attribute__((vector_size(16)));
inline void split_octets(const int8_t *from, int8_t *to) {
  for (int i = 0; i < 32; i += 16) {
    Bytes16 v;
    std::memcpy(&v, from + i, 16);
    v = __builtin_shufflevector(v, v, 0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    std::memcpy(to + i, &v, 16);
  }
}

/* The index of column k in QuantizedRow::values. */
inline int64_t value_index(int64_t k, int bits) {
  if (bits == 8) return k;
  const int64_t chunk = k / kChunk * kChunk, column = k % kChunk;
  return chunk + column % 2 * (kChunk / 2) + column / 2;
}

/* A block of activations, rounded to int8 with one scale. */
struct RoundedBlock {
  int8_t values[kMostBlock];
  float scale;
  int32_t sum;
};

/* Round the columns start to start + block - 1 of a row of k; columns from k on are zero. */
inline void round_block(const float *x, int64_t k, int64_t start, int block, RoundedBlock *rounded) {
  float padded[kMostBlock];
  const float *from = x + start;
  if (k - start < block) {
    const int64_t count = k > start ? k - start : 0;
    for (int i = 0; i < block; ++i) padded[i] = i < count ? from[i] : 0.0f;
    from = padded;
  }
  Vec size = {};
  for (int i = 0; i < block; i += kLanes) size = larger(size, larger(load(from + i), -load(from + i)));
  const float most = largest_lane(size), inverse = most > 1e-30f ? 127.0f / most : 0.0f;
  rounded->scale = most / 127.0f;
  rounded->sum = 0;
  for (int i = 0; i < block; i += 32) rounded->sum += round32(from + i, inverse, rounded->values + i);
}

void quantize_row(const float *x, int64_t k, int bits, int block, int64_t begin, int64_t end, QuantizedRow row) {
  RoundedBlock rounded;
  for (int64_t start = begin; start < end; start += block) {
    round_block(x, k, start, block, &rounded);
    row.scales[start / block] = rounded.scale;
    row.sums[start / block] = rounded.scale * static_cast<float>(rounded.sum);
    if (bits == 8) {
      std::memcpy(row.values + start, rounded.values, static_cast<size_t>(block));
      continue;
    }
    int8_t split[32], *even = row.values + start / kChunk * kChunk + start % kChunk / 2, *odd = even + kChunk / 2;
    for (int i = 0; i < block; i += 32) {
      split_octets(rounded.values + i, split);
      for (int j = 0; j < 32; j += 8) {
        std::memcpy(even + (i + j) / 2, split + j, 4);
        std::memcpy(odd + (i + j) / 2, split + j + 4, 4);
      }
    }
  }
}

/* A pack in int8, for kernels that process four columns of each of 16 rows at a time (a step):
 *
 *   values   (padded k / 4, 16, 4) int8    8-bit codes: step s has columns 4s to 4s + 3. 4-bit codes: two steps have eight
 *                                          columns, first the four even ones, then the four odd ones
 *   scales   (padded k / block, 16) float  value * scale is the activation
 *   sums     (padded k / block, 16) float  sum of value * scale over a block
 */
struct Int8Pack {
  const int8_t *values;
  const float *scales, *sums;

  Int8Pack(const uint8_t *pack, const Matrix &w)
      : values(reinterpret_cast<const int8_t *>(pack)),
        scales(reinterpret_cast<const float *>(pack + padded_k(w.k) * kPackRows)),
        sums(scales + padded_k(w.k) / w.block * kPackRows) {}
};

inline size_t int8_pack_bytes(const Matrix &w) {
  return static_cast<size_t>(kPackRows * (padded_k(w.k) + 8 * (padded_k(w.k) / w.block)));
}

inline void int8_pack(const float *x, int64_t stride, int count, const Matrix &w, int64_t begin, int64_t end, uint8_t *pack) {
  const Int8Pack to(pack, w);
  int8_t *values = const_cast<int8_t *>(to.values);
  float *scales = const_cast<float *>(to.scales), *sums = const_cast<float *>(to.sums);
  RoundedBlock rounded;
  for (int r = 0; r < kPackRows; ++r)
    for (int64_t start = begin; start < padded_k(end); start += w.block) {
      round_block(x + (r < count ? r : 0) * stride, r < count ? end - begin : 0, start - begin, w.block, &rounded);
      scales[start / w.block * kPackRows + r] = rounded.scale;
      sums[start / w.block * kPackRows + r] = rounded.scale * static_cast<float>(rounded.sum);
      for (int i = 0; i < w.block; i += 32) {
        int8_t split[32], *step = values + ((start + i) / 4 * kPackRows + r) * 4;
        if (w.bits == 4) split_octets(rounded.values + i, split);
        for (int j = 0; j < 32; j += 4) std::memcpy(step + j * kPackRows, (w.bits == 4 ? split : rounded.values + i) + j, 4);
      }
    }
}

void rms_norm(const float *x, const float *weight, int64_t n, float epsilon, float *y) {
  const float scale = 1.0f / std::sqrt(dot(x, x, n) / static_cast<float>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

void silu_multiply(const float *gate, const float *up, int64_t n, float *y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec x = load(gate + i);
    store(x / (1.0f + exponential(-x)) * load(up + i), y + i);
  }
  if (i == n) return;
  float tail[2 * kLanes] = {};
  std::memcpy(tail, gate + i, sizeof(float) * static_cast<size_t>(n - i));
  std::memcpy(tail + kLanes, up + i, sizeof(float) * static_cast<size_t>(n - i));
  const Vec x = load(tail);
  store(x / (1.0f + exponential(-x)) * load(tail + kLanes), tail);
  std::memcpy(y + i, tail, sizeof(float) * static_cast<size_t>(n - i));
}

void rotate(float *x, const float *cos, const float *sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cos[i] - b * sin[i];
    x[half + i] = b * cos[i] + a * sin[i];
  }
}

/* The key or value of a head at one position has one scale. */
void store_kv(const float *x, int64_t n, KvType type, void *y, int64_t stride, float *scale) {
  if (type == KvType::kFloat16) {
    uint16_t halves[kMaxHeadDim];
    store_halves(x, n, halves);
    for (int64_t i = 0; i < n; ++i) static_cast<uint16_t *>(y)[i * stride] = halves[i];
    return;
  }
  Vec size = {};
  for (int64_t i = 0; i < n; i += kLanes) size = larger(size, larger(load(x + i), -load(x + i)));
  const float most = largest_lane(size), inverse = most > 1e-30f ? 127.0f / most : 0.0f;
  *scale = most / 127.0f;
  int8_t bytes[kMaxHeadDim];
  float last[32] = {}; /* head_dim is a multiple of 16 */
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) round32(x + i, inverse, bytes + i);
  if (i < n) std::memcpy(last, x + i, sizeof(float) * static_cast<size_t>(n - i));
  if (i < n) round32(last, inverse, bytes + i);
  for (i = 0; i < n; ++i) static_cast<int8_t *>(y)[i * stride] = bytes[i];
}

}  // namespace
