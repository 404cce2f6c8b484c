/* Source code shared by the NEON tables: conversions, the decode kernel, and the loop around a tile of prefill. Each table
 * includes this file, which includes common.inl and attention.inl, before its own kernels. */
#include <arm_neon.h>

#define EK_LANES 4
#define EK_ATTEND_ROWS 6
#define EK_OWN_CONVERSIONS
#define EK_ADD_LANES(v) vaddvq_f32(v)
#include <cstdint>
namespace {
inline float32x4_t half_lanes(const uint16_t *x) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x))); }
inline float32x4_t byte_lanes(const int8_t *x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}
inline void store_halves(const float *x, int64_t n, uint16_t *y) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) vst1_u16(y + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
  for (; i < n; ++i) y[i] = vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(x[i]))), 0);
}
inline int32_t round32(const float *x, float inverse, int8_t *to) {
  int32_t sum = 0;
  for (int i = 0; i < 32; i += 16) {
    int32x4_t four[4];
    for (int j = 0; j < 4; ++j) four[j] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4 * j), inverse));
    const int16x8_t low = vcombine_s16(vmovn_s32(four[0]), vmovn_s32(four[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(four[2]), vmovn_s32(four[3]));
    vst1q_s8(to + i, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    sum += vaddlvq_s16(vaddq_s16(low, high));
  }
  return sum;
}
}  // namespace
#include "common.inl"
#include "attention.inl"

namespace {

/* Blocks in a chunk: 4, 2 or 1. */
template <typename F>
constexpr int kChunkBlocks = kChunk / F::kBlock;

/* Convert integer sums to float with one subtraction. A sum that starts from the bits of the float 1.5 * 2^23 is, read as a
 * float, 1.5 * 2^23 + i as long as |i| < 2^22; the sum of a group is below 2^20. The conversion instruction SCVTF would
 * occupy one of the two vector pipes of a Cortex-A76 for two cycles. */
constexpr float kMagic = 12582912.0f;
constexpr int32_t kMagicBits = 0x4b400000;

inline float32x4_t from_magic(int32x4_t sum) { return vsubq_f32(vreinterpretq_f32_s32(sum), vdupq_n_f32(kMagic)); }

/* What the decode kernel subtracts from 8-bit codes before it multiplies them. */
#ifdef __ARM_FEATURE_MATMUL_INT8
constexpr int kFewOffset = 0;
#else
constexpr int kFewOffset = 128;
#endif

/* Multiply sixteen codes with sixteen values and add each four products to a lane of `sum`. */
template <typename F>
EK_INLINE int32x4_t dot4(int32x4_t sum, uint8x16_t codes, int8x16_t values) {
#ifdef __ARM_FEATURE_MATMUL_INT8
  if constexpr (F::kBits == 8) return vusdotq_s32(sum, codes, values);
#endif
  return vdotq_s32(sum, vreinterpretq_s8_u8(codes), values);
}

/* The first `count` numbers, at least 1; the other lanes are zero. */
EK_INLINE float32x4_t load_some(const float *x, int64_t count) {
  if (count >= 4) return vld1q_f32(x);
  if (count == 2) return vcombine_f32(vld1_f32(x), vdup_n_f32(0));
  float32x4_t some = vsetq_lane_f32(x[0], vdupq_n_f32(0), 0);
  if (count == 3) some = vsetq_lane_f32(x[2], vsetq_lane_f32(x[1], some, 1), 2);
  return some;
}

EK_INLINE float32x4_t load_some(const uint16_t *x, int64_t count) {
  uint64_t bits = 0;
  if (count >= 4) {
    std::memcpy(&bits, x, 8);
  } else {
    bits = x[0];
    if (count > 1) bits |= static_cast<uint64_t>(x[1]) << 16;
    if (count > 2) bits |= static_cast<uint64_t>(x[2]) << 32;
  }
  return vcvt_f32_f16(vreinterpret_f16_u64(vdup_n_u64(bits)));
}

/* A chunk has a lane for each of its four groups. Repeat the values of its 4, 2 or 1 blocks in the lanes of their groups. */
template <typename F>
EK_INLINE float32x4_t spread(float32x4_t blocks) {
  if constexpr (kChunkBlocks<F> == 4) return blocks;
  if constexpr (kChunkBlocks<F> == 2) return vzip1q_f32(blocks, blocks);
  return vdupq_laneq_f32(blocks, 0);
}

/* Put the values of blocks into the first lane of each block, zero in the others: for what counts once per block. */
template <typename F>
EK_INLINE float32x4_t once(float32x4_t blocks) {
  return kChunkBlocks<F> == 2 ? vzip1q_f32(blocks, vdupq_n_f32(0)) : blocks; /* with 1 block the other lanes are zero already */
}

/* The scales of `count` blocks of row n from block b on, in the lanes of their groups. */
template <typename F>
EK_INLINE float32x4_t chunk_scales(const Matrix &w, int64_t n, int64_t b, int64_t count) {
  const int64_t at = n * w.blocks() + b;
  return spread<F>(F::kHalf ? load_some(static_cast<const uint16_t *>(w.scales) + at, count)
                                 : load_some(static_cast<const float *>(w.scales) + at, count));
}

/* Their zero points, minus what was subtracted from the codes. */
template <typename F>
EK_INLINE float32x4_t chunk_zeros(const Matrix &w, int64_t n, int64_t b, int64_t count) {
  constexpr int kLess = F::kBits == 8 ? kFewOffset : 0, kBits = F::kBits;
  if (!w.zero_points) return vdupq_n_f32(static_cast<float>((1 << (kBits - 1)) - kLess));
  if constexpr (kChunkBlocks<F> == 1) return vdupq_n_f32(static_cast<float>(zero_point_at(w, n, b) - kLess));
  const uint8_t *zeros = w.zero_points + n * ((w.blocks() * kBits + 7) / 8) + b * kBits / 8;
  uint32_t packed = 0;
  for (int64_t i = 0; i < (count * kBits + 7) / 8; ++i) packed |= static_cast<uint32_t>(zeros[i]) << (8 * i);
  const int32x4_t shifts = {0, -kBits, -2 * kBits, -3 * kBits};
  const uint32x4_t lanes = vandq_u32(vshlq_u32(vdupq_n_u32(packed), shifts), vdupq_n_u32((1 << kBits) - 1));
  return spread<F>(vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(lanes), vdupq_n_s32(kLess))));
}

/* Load a chunk of the codes of one row. Registers 2g and 2g + 1 have group g: even and odd columns of 4-bit codes, the two
 * halves of 8-bit codes. `bytes` are read; the rest is zero. */
template <typename F>
EK_INLINE void load_codes(const uint8_t *from, int64_t bytes, uint8x16_t codes[8]) {
#pragma GCC unroll 8
  for (int i = 0; i < F::kBits; ++i) {
    const uint8x16_t loaded = 16 * i < bytes ? vld1q_u8(from + 16 * i) : vdupq_n_u8(0);
    if constexpr (F::kBits == 4) {
      codes[2 * i] = vandq_u8(loaded, vdupq_n_u8(15));
      codes[2 * i + 1] = vshrq_n_u8(loaded, 4);
    } else {
      codes[i] = kFewOffset ? veorq_u8(loaded, vdupq_n_u8(0x80)) : loaded;
    }
  }
}

/* The sum of codes * values for each group, one in each lane. */
template <typename F>
EK_INLINE float32x4_t chunk_dots(const uint8x16_t codes[8], const int8_t *values) {
  constexpr int kNext = F::kBits == 4 ? 16 : 32, kOther = F::kBits == 4 ? kChunk / 2 : 16;
  int32x4_t sums[4];
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    sums[g] = dot4<F>(vdupq_n_s32(kMagicBits / 4), codes[2 * g], vld1q_s8(values + kNext * g));
    sums[g] = dot4<F>(sums[g], codes[2 * g + 1], vld1q_s8(values + kNext * g + kOther));
  }
  return from_magic(vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3])));
}

/* Prefetch distance in bytes: one page, because hardware prefetchers stop at page boundaries. A prefetch past the end of the
 * file does nothing. */
constexpr int64_t kPrefetch = 4096;

/* Add `count` blocks from block b on, a chunk or the rest of one, to outputs n to n + kOutputs - 1. */
template <typename F, int kRows, int kOutputs>
EK_INLINE void add_chunk(const Matrix &w, const QuantizedRow *rows, int64_t n, int64_t b, int64_t count,
                         float32x4_t totals[kOutputs][kRows]) {
  const int64_t column = b * F::kBlock;
#pragma GCC unroll 2
  for (int i = 0; i < kOutputs; ++i) {
    const uint8_t *from = w.codes + (n + i) * w.row_bytes() + column * F::kBits / 8;
    for (int at = 0; at < kChunk * F::kBits / 8; at += 64) __builtin_prefetch(from + at + kPrefetch);
    uint8x16_t codes[8];
    load_codes<F>(from, count * F::kBlock * F::kBits / 8, codes);
    const float32x4_t scale = chunk_scales<F>(w, n + i, b, count), zero = chunk_zeros<F>(w, n + i, b, count);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const float32x4_t groups = spread<F>(load_some(rows[r].scales + b, count));
      const float32x4_t dots = vmulq_f32(chunk_dots<F>(codes, rows[r].values + column), groups);
      const float32x4_t sums = once<F>(load_some(rows[r].sums + b, count));
      totals[i][r] = vfmaq_f32(totals[i][r], vfmsq_f32(dots, zero, sums), scale);
    }
  }
}

/* Vector instructions for 64 bytes of 4-bit codes and one row of activations: 8 split the codes, 4 are moves, 8 products, 3
 * add lanes, 4 apply scales. With some moves that gcc adds, these 27 take 14 to 16 cycles on the two vector pipes of a
 * Cortex-A76, or 4 bytes per cycle. 128 bytes of 8-bit codes take as many, or 19 with USDOT, which needs no offset. Two
 * outputs at a time share the loads of activations. */
template <typename F, int kRows, int kOutputs>
inline void few_outputs(const Matrix &w, const QuantizedRow *rows, int64_t n, float *y, int64_t stride, bool add_to) {
  float32x4_t totals[kOutputs][kRows];
  for (int i = 0; i < kOutputs; ++i)
    for (int r = 0; r < kRows; ++r) totals[i][r] = vdupq_n_f32(0);
  const int64_t blocks = w.blocks();
  int64_t b = 0;
  for (; b + kChunkBlocks<F> <= blocks; b += kChunkBlocks<F>)
    add_chunk<F, kRows, kOutputs>(w, rows, n, b, kChunkBlocks<F>, totals);
  if constexpr (kChunkBlocks<F> > 1)
    if (b < blocks) add_chunk<F, kRows, kOutputs>(w, rows, n, b, blocks - b, totals);
  for (int i = 0; i < kOutputs; ++i)
    for (int r = 0; r < kRows; ++r) {
      float *to = y + r * stride + n + i;
      *to = vaddvq_f32(totals[i][r]) + (w.bias ? w.bias[n + i] : 0.0f) + (add_to ? *to : 0.0f);
    }
}

/* multiply_few() for m rows, at most kRows. */
template <typename F, int kRows>
inline void few_rows(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                     bool add_to) {
  if constexpr (kRows > 1)
    if (m < kRows) return few_rows<F, kRows - 1>(w, rows, m, first, last, y, stride, add_to);
  int64_t n = first;
  if constexpr (kRows == 1)
    for (; n + 2 <= last; n += 2) few_outputs<F, kRows, 2>(w, rows, n, y, stride, add_to);
  for (; n < last; ++n) few_outputs<F, kRows, 1>(w, rows, n, y, stride, add_to);
}

void multiply_few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                  bool add_to) {
  for (int r = 0; r < m; r += 8)
    with_format(w, [&](auto format) {
      few_rows<decltype(format), 8>(w, rows + r, m - r < 8 ? m - r : 8, first, last, y + r * stride, stride, add_to);
    });
}

void multiply_one(const Matrix &w, const QuantizedRow &row, int64_t first, int64_t last, float *y, bool add_to) {
  multiply_few(w, &row, 1, first, last, y, 0, add_to);
}

/* Rows of activations to multiply with a panel before the next panel is unpacked: as many as fit into an L2 cache of 256 KB,
 * but enough to make the cost of unpacking, about half a tile of 4 rows, negligible. */
inline int64_t rows_at_once(const Matrix &w) {
  const int64_t fit = (256 << 10) / padded_k(w.k) / kPackRows * kPackRows;
  return fit > 4 * kPackRows ? fit : 4 * kPackRows;
}

/* Prefill: unpack(n) unpacks kOutputs outputs from n on into a panel; tile(row, out) multiplies kRows rows with it, out
 * (kRows, kOutputs). Rows of a pack beyond m are zero. */
template <int kRows, int kOutputs, typename Unpack, typename Tile>
inline void many(const Matrix &w, int64_t m, int64_t first, int64_t last, float *y, int64_t stride, bool add_to,
                 Unpack unpack, Tile tile) {
  const int64_t step = rows_at_once(w);
  for (int64_t start = 0; start < m; start += step)
    for (int64_t n = first; n < last; n += kOutputs) {
      unpack(n);
      const int64_t count = last - n < kOutputs ? last - n : kOutputs;
      for (int64_t row = start; row < m && row < start + step; row += kRows) {
        float out[kRows * kOutputs];
        tile(row, out);
        for (int i = 0; i < kRows && row + i < m; ++i) {
          float *to = y + (row + i) * stride + n;
          for (int64_t j = 0; j < count; ++j)
            to[j] = out[i * kOutputs + j] + (w.bias ? w.bias[n + j] : 0.0f) + (add_to ? to[j] : 0.0f);
        }
      }
    }
}

}  // namespace
