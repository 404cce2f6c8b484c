/* Decode and few rows of activations on NEON; included after neon.inl.
 *
 * All products of a block of weights are added as integers before the scales are applied. Vector instructions for 64 bytes
 * of 4-bit codes: 8 split them into low and high nibbles and 8 SDOT multiply them with a row of activations. What a block
 * needs beyond that is shared by four blocks in decode and by several rows of activations in multiply_few(). Memory is read as
 * one stream in decode and as two with few rows. */
namespace {

/* What is subtracted from 8-bit codes before they are multiplied: SDOT needs signed codes, USDOT does not. */
#ifdef __ARM_FEATURE_MATMUL_INT8
constexpr int kCodeOffset = 0;
#else
constexpr int kCodeOffset = 128;
#endif

/* The zero point of symmetric weights, minus what was subtracted from the codes. */
template <int kBits>
constexpr int kMiddle = (1 << (kBits - 1)) - (kBits == 8 ? kCodeOffset : 0);

/* Prefetch distance in bytes: one page, because hardware prefetchers stop at page boundaries. A prefetch past the end of the
 * file does nothing. */
constexpr int64_t kPrefetch = 4096;

/* Sixteen bytes of codes as operands of a product: two registers of 4-bit codes, even and odd columns, or one of 8-bit
 * codes. */
template <int kBits>
EK_INLINE void split_codes(const uint8_t *from, int8x16_t codes[2]) {
  const uint8x16_t loaded = vld1q_u8(from);
  if constexpr (kBits == 4) {
    codes[0] = vreinterpretq_s8_u8(vandq_u8(loaded, vdupq_n_u8(15)));
    codes[1] = vreinterpretq_s8_u8(vshrq_n_u8(loaded, 4));
  } else {
    codes[0] = vreinterpretq_s8_u8(kCodeOffset ? veorq_u8(loaded, vdupq_n_u8(0x80)) : loaded);
  }
}

/* Multiply sixteen codes with sixteen values and add each four products to a lane of `sum`. */
template <int kBits>
EK_INLINE int32x4_t dot4(int32x4_t sum, int8x16_t codes, int8x16_t values) {
#ifdef __ARM_FEATURE_MATMUL_INT8
  if constexpr (kBits == 8) return vusdotq_s32(sum, vreinterpretq_u8_s8(codes), values);
#endif
  return vdotq_s32(sum, codes, values);
}

/* The index of a block's first value in QuantizedRow::values; with 4-bit codes, its odd columns are kChunk / 2 after it. */
template <int kBits, int kBlock>
EK_INLINE int64_t first_value(int64_t b) {
  const int64_t column = b * kBlock;
  return kBits == 8 ? column : column / kChunk * kChunk + column % kChunk / 2;
}

template <int kBits, int kBlock>
EK_INLINE int32x4_t block_dots(const uint8_t *codes, const int8_t *values) {
  int32x4_t sum = vdupq_n_s32(0);
#pragma GCC unroll 8
  for (int at = 0; at < kBlock * kBits / 8; at += 16) {
    int8x16_t operands[2];
    split_codes<kBits>(codes + at, operands);
    sum = dot4<kBits>(sum, operands[0], vld1q_s8(values + at));
    if constexpr (kBits == 4) sum = dot4<kBits>(sum, operands[1], vld1q_s8(values + at + kChunk / 2));
  }
  return sum;
}

EK_INLINE int32x4_t add_lanes_of(const int32x4_t v[4]) {
  return vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]));
}

EK_INLINE float one_scale(const Matrix &w, int64_t at) {
  if (!w.half_scales) return static_cast<const float *>(w.scales)[at];
  __fp16 half;
  std::memcpy(&half, static_cast<const uint16_t *>(w.scales) + at, sizeof half);
  return static_cast<float>(half);
}

EK_INLINE float32x4_t four_scales(const Matrix &w, int64_t at) {
  if (!w.half_scales) return vld1q_f32(static_cast<const float *>(w.scales) + at);
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(static_cast<const uint16_t *>(w.scales) + at)));
}

EK_INLINE int64_t zero_bytes(const Matrix &w) { return w.bits == 8 ? w.blocks() : (w.blocks() + 1) / 2; }

/* The zero points of blocks b to b + 3 of row n, minus kCodeOffset; b is a multiple of 4. */
template <typename F>
EK_INLINE float32x4_t four_zeros(const uint8_t *zeros, int64_t b) {
  if constexpr (F::kBits == 4) {
    uint16_t packed;
    std::memcpy(&packed, zeros + b / 2, sizeof packed);
    const int32x4_t shifts = {0, -4, -8, -12};
    return vcvtq_f32_u32(vandq_u32(vshlq_u32(vdupq_n_u32(packed), shifts), vdupq_n_u32(15)));
  } else {
    uint32_t packed;
    std::memcpy(&packed, zeros + b, sizeof packed);
    if (kCodeOffset) packed ^= 0x80808080u;
    const uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(packed));
    if (kCodeOffset) return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(bytes)))));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
  }
}

template <int kBits>
EK_INLINE float one_zero(const uint8_t *zeros, int64_t b) {
  return static_cast<float>(kBits == 8 ? zeros[b] - kCodeOffset : zeros[b / 2] >> (b % 2 * 4) & 15);
}

/* One output; its four lanes are to be added. Four blocks at a time, so that a lane sum, a conversion and the scales cost
 * one instruction for all of them: 78 vector instructions for 256 bytes of symmetric 4-bit codes in blocks of 128. */
template <typename F, bool kZeros>
EK_INLINE float32x4_t one_output(const Matrix &w, const QuantizedRow &row, int64_t n) {
  constexpr int kBits = F::kBits, kBlock = F::kBlock, kBytes = kBlock * kBits / 8;
  const int64_t blocks = w.blocks(), scales = n * blocks;
  const uint8_t *codes = w.codes + n * w.row_bytes();
  const uint8_t *zeros = kZeros ? w.zero_points + n * zero_bytes(w) : nullptr;
  float32x4_t total = vdupq_n_f32(0), less = vdupq_n_f32(0);
  int64_t b = 0;
  for (; b + 4 <= blocks; b += 4, codes += 4 * kBytes) {
    const int8_t *values = row.values + b * kBlock;
    int32x4_t dots[4];
#pragma GCC unroll 8
    for (int at = 0; at < 4 * kBytes; at += 64) __builtin_prefetch(codes + at + kPrefetch);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      dots[i] = block_dots<kBits, kBlock>(codes + i * kBytes, values + first_value<kBits, kBlock>(i));
    const float32x4_t scale = four_scales(w, scales + b), sums = vmulq_f32(scale, vld1q_f32(row.sums + b));
    total = vfmaq_f32(total, vcvtq_f32_s32(add_lanes_of(dots)), vmulq_f32(scale, vld1q_f32(row.scales + b)));
    less = kZeros ? vfmaq_f32(less, sums, four_zeros<F>(zeros, b)) : vaddq_f32(less, sums);
  }
  for (; b < blocks; ++b, codes += kBytes) {
    const float scale = one_scale(w, scales + b), sum = scale * row.sums[b];
    const int32x4_t dots = block_dots<kBits, kBlock>(codes, row.values + first_value<kBits, kBlock>(b));
    total = vfmaq_n_f32(total, vcvtq_f32_s32(dots), scale * row.scales[b]);
    less = vaddq_f32(less, vsetq_lane_f32(kZeros ? sum * one_zero<kBits>(zeros, b) : sum, vdupq_n_f32(0), 0));
  }
  return vfmsq_n_f32(total, less, static_cast<float>(kZeros ? 1 : kMiddle<kBits>));
}

/* Store four sums as outputs n to n + 3. */
EK_INLINE void store_outputs(const Matrix &w, float32x4_t sums, int64_t n, float *y, bool add_to) {
  if (w.bias) sums = vaddq_f32(sums, vld1q_f32(w.bias + n));
  if (add_to) sums = vaddq_f32(sums, vld1q_f32(y + n));
  vst1q_f32(y + n, sums);
}

template <typename F, bool kZeros>
__attribute__((noinline)) void decode(const Matrix &w, const QuantizedRow &row, int64_t first, int64_t last, float *y,
                                      bool add_to) {
  int64_t n = first;
  for (; n + 4 <= last; n += 4) {
    float32x4_t sums[4];
#pragma GCC unroll 1
    for (int i = 0; i < 4; ++i) sums[i] = one_output<F, kZeros>(w, row, n + i);
    store_outputs(w, vpaddq_f32(vpaddq_f32(sums[0], sums[1]), vpaddq_f32(sums[2], sums[3])), n, y, add_to);
  }
  for (; n < last; ++n)
    y[n] = vaddvq_f32(one_output<F, kZeros>(w, row, n)) + (w.bias ? w.bias[n] : 0.0f) + (add_to ? y[n] : 0.0f);
}

void multiply_one(const Matrix &w, const QuantizedRow &row, int64_t first, int64_t last, float *y, bool add_to) {
  with_format(w, [&](auto format) {
    using F = decltype(format);
    w.zero_points ? decode<F, true>(w, row, first, last, y, add_to) : decode<F, false>(w, row, first, last, y, add_to);
  });
}

/* Few rows. The scales and sums of up to eight rows, gathered by block, are on the stack. Rows of matrices with more columns
 * are multiplied one by one. */
constexpr int kFewRows = 8;
constexpr int64_t kMostColumns = 32768;
constexpr int64_t kMostFactors = kMostColumns / kLeastBlock;

struct BlockFactors {
  float scales[kFewRows], sums[kFewRows];
};

/* The scales of two outputs and scale * zero point, for each block in the lanes 0 1, or 0 0 1 1 for matrix products. */
#ifdef __ARM_FEATURE_MATMUL_INT8
constexpr int kOutputLanes = 4;
EK_INLINE void store_factors(float *to, float32x4_t first, float32x4_t second) {
  const float32x4x4_t lanes = {{first, first, second, second}};
  vst4q_f32(to, lanes);
}
#else
constexpr int kOutputLanes = 2;
EK_INLINE void store_factors(float *to, float32x4_t first, float32x4_t second) {
  const float32x4x2_t lanes = {{first, second}};
  vst2q_f32(to, lanes);
}
#endif

struct OutputFactors {
  float scales[kMostFactors * kOutputLanes], zeros[kMostFactors * kOutputLanes];
};

template <typename F, bool kZeros>
__attribute__((noinline)) void output_factors(const Matrix &w, const int64_t outputs[2], OutputFactors *to) {
  const int64_t blocks = w.blocks();
  for (int64_t b = 0; b < blocks; b += 4) {
    float32x4_t scale[2], zero[2];
    for (int i = 0; i < 2; ++i) {
      const int64_t at = outputs[i] * blocks + b;
      const uint8_t *zeros = kZeros ? w.zero_points + outputs[i] * zero_bytes(w) : nullptr;
      float scales[4] = {}, middle[4] = {};
      for (int64_t j = 0; b + 4 > blocks && j < blocks - b; ++j) {
        scales[j] = one_scale(w, at + j);
        middle[j] = kZeros ? one_zero<F::kBits>(zeros, b + j) : static_cast<float>(kMiddle<F::kBits>);
      }
      scale[i] = b + 4 > blocks ? vld1q_f32(scales) : four_scales(w, at);
      if constexpr (kZeros) zero[i] = b + 4 > blocks ? vld1q_f32(middle) : four_zeros<F>(zeros, b);
      else zero[i] = vdupq_n_f32(static_cast<float>(kMiddle<F::kBits>));
      zero[i] = vmulq_f32(zero[i], scale[i]);
    }
    store_factors(to->scales + b * kOutputLanes, scale[0], scale[1]);
    store_factors(to->zeros + b * kOutputLanes, zero[0], zero[1]);
  }
}

template <int kBits, bool kZeros>
EK_INLINE void output_factors(const Matrix &w, int64_t n, int64_t second, OutputFactors *to) {
  const int64_t outputs[2] = {n, second};
  output_factors<Format<kBits, kLeastBlock>, kZeros>(w, outputs, to);
}

}  // namespace
#ifdef __ARM_FEATURE_MATMUL_INT8
#include "neon_pairs.inl"
#else
#include "neon_rows.inl"
#endif
namespace {

/* multiply_few() for 2 to kFewRows rows. */
template <int kBits, int kBlock, bool kZeros>
inline void few_rows(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                     bool add_to) {
  BlockFactors factors[kMostFactors];
  for (int64_t b = 0; b < w.blocks(); ++b)
    for (int r = 0; r < kFewRows; ++r) {
      factors[b].scales[r] = r < m ? rows[r].scales[b] : 0.0f;
      factors[b].sums[r] = r < m ? rows[r].sums[b] : 0.0f;
    }
  few_products<kBits, kBlock, kZeros>(w, rows, m, factors, first, last, y, stride, add_to);
}

void multiply_few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                  bool add_to) {
  if (m > kFewRows) { /* halves of about the same size */
    multiply_few(w, rows, (m + 1) / 2, first, last, y, stride, add_to);
    multiply_few(w, rows + (m + 1) / 2, m / 2, first, last, y + (m + 1) / 2 * stride, stride, add_to);
  } else if (m == 1 || w.k > kMostColumns) {
    for (int r = 0; r < m; ++r) multiply_one(w, rows[r], first, last, y + r * stride, add_to);
  } else {
    with_format(w, [&](auto format) {
      using F = decltype(format);
      w.zero_points ? few_rows<F::kBits, F::kBlock, true>(w, rows, m, first, last, y, stride, add_to)
                    : few_rows<F::kBits, F::kBlock, false>(w, rows, m, first, last, y, stride, add_to);
    });
  }
}

}  // namespace
