/* Few rows of activations with int8 matrix products; included by neon_few.inl. SMMLA multiplies eight columns of two outputs
 * with those of two rows of activations, twice the products of SDOT:
 *
 *   codes    output 0 | output 1         one register, eight columns of each
 *   pair     row 0    | row 1
 *   sums     00 01 10 11                 (output, row)
 *
 * The rows are interleaved on the stack, in up to 256 KB: for each eight values of QuantizedRow, those of all pairs of rows. */
namespace {

/* Row 2p and row 2p + 1 (or a copy, if m is odd) as pair p. */
template <int kPairs>
inline void interleave(const QuantizedRow *rows, int m, int64_t count, int8_t *to) {
  for (int p = 0; p < kPairs; ++p) {
    const int8_t *first = rows[2 * p].values, *second = rows[2 * p + 1 < m ? 2 * p + 1 : 2 * p].values;
    for (int64_t i = 0; i < count; i += 16) {
      const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(first + i)), b = vreinterpretq_s64_s8(vld1q_s8(second + i));
      vst1q_s8(to + (i * kPairs + 8 * p) * 2, vreinterpretq_s8_s64(vzip1q_s64(a, b)));
      vst1q_s8(to + ((i + 8) * kPairs + 8 * p) * 2, vreinterpretq_s8_s64(vzip2q_s64(a, b)));
    }
  }
}

template <int kBits>
EK_INLINE int32x4_t multiply_pair(int32x4_t sum, uint8x16_t codes, int8x16_t values) {
  if constexpr (kBits == 8) return vusmmlaq_s32(sum, codes, values);
  return vmmlaq_s32(sum, vreinterpretq_s8_u8(codes), values);
}

/* Two numbers in the lanes of rows 0 1 0 1. */
EK_INLINE float32x4_t by_row(const float *two) { return vcombine_f32(vld1_f32(two), vld1_f32(two)); }

/* Vector instructions for 64 bytes of 4-bit codes in a block of 128 and 8 rows: 4 interleave two outputs, 8 split the codes,
 * 32 multiply, 12 clear the sums and apply scales. */
template <int kBits, int kBlock, bool kZeros, int kPairs>
__attribute__((noinline)) void few_pairs(const Matrix &w, int m, const int8_t *values, const BlockFactors *factors,
                                         int64_t first, int64_t last, float *y, int64_t stride, bool add_to) {
  constexpr int kBytes = kBlock * kBits / 8, kStep = 2 * kPairs; /* bytes of `values` for each value of a row */
  const int64_t blocks = w.blocks();
  for (int64_t n = first; n < last; n += 2) {
    const int64_t second = n + 1 < last ? n + 1 : n;
    const uint8_t *codes[2] = {w.codes + n * w.row_bytes(), w.codes + second * w.row_bytes()};
    OutputFactors of;
    output_factors<kBits, kZeros>(w, n, second, &of);
    float32x4_t total[kPairs];
    for (int p = 0; p < kPairs; ++p) total[p] = vdupq_n_f32(0);
    for (int64_t b = 0; b < blocks; ++b) {
      int32x4_t dots[kPairs];
      const int8_t *at_block = values + first_value<kBits, kBlock>(b) * kStep;
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p) dots[p] = vdupq_n_s32(0);
      for (int at = 0; at < kBytes; at += 64)
        for (int i = 0; i < 2; ++i) __builtin_prefetch(codes[i] + b * kBytes + at + kPrefetch);
#pragma GCC unroll 8
      for (int at = 0; at < kBytes; at += 16) {
        const uint64x2_t x = vreinterpretq_u64_u8(vld1q_u8(codes[0] + b * kBytes + at));
        const uint64x2_t y01 = vreinterpretq_u64_u8(vld1q_u8(codes[1] + b * kBytes + at));
        const uint8x16_t both[2] = {vreinterpretq_u8_u64(vzip1q_u64(x, y01)), vreinterpretq_u8_u64(vzip2q_u64(x, y01))};
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const int8_t *eight = at_block + (at + 8 * half) * kStep;
          const uint8x16_t low = kBits == 4 ? vandq_u8(both[half], vdupq_n_u8(15)) : both[half];
#pragma GCC unroll 4
          for (int p = 0; p < kPairs; ++p) dots[p] = multiply_pair<kBits>(dots[p], low, vld1q_s8(eight + 16 * p));
          if constexpr (kBits == 4) {
            const uint8x16_t high = vshrq_n_u8(both[half], 4);
#pragma GCC unroll 4
            for (int p = 0; p < kPairs; ++p)
              dots[p] = multiply_pair<kBits>(dots[p], high, vld1q_s8(eight + kChunk / 2 * kStep + 16 * p));
          }
        }
      }
      const float32x4_t scale = vld1q_f32(of.scales + 4 * b), zero = vld1q_f32(of.zeros + 4 * b);
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p) {
        total[p] = vfmaq_f32(total[p], vcvtq_f32_s32(dots[p]), vmulq_f32(scale, by_row(factors[b].scales + 2 * p)));
        if (kZeros || kMiddle<kBits>) total[p] = vfmsq_f32(total[p], zero, by_row(factors[b].sums + 2 * p));
      }
    }
    for (int r = 0; r < m; ++r)
      for (int64_t i = 0; i < 2 && n + i < last; ++i) {
        float sums[4], *to = y + r * stride + n + i;
        vst1q_f32(sums, total[r / 2]);
        *to = sums[2 * i + r % 2] + (w.bias ? w.bias[n + i] : 0.0f) + (add_to ? *to : 0.0f);
      }
  }
}

/* few_pairs() for m rows, 2 to kFewRows. */
template <int kBits, int kBlock, bool kZeros>
inline void few_products(const Matrix &w, const QuantizedRow *rows, int m, const BlockFactors *factors, int64_t first,
                         int64_t last, float *y, int64_t stride, bool add_to) {
  const auto run = [&](auto pairs) {
    constexpr int kPairs = decltype(pairs)::value;
    alignas(16) int8_t values[kMostColumns * 2 * kPairs];
    interleave<kPairs>(rows, m, padded_k(w.k), values);
    few_pairs<kBits, kBlock, kZeros, kPairs>(w, m, values, factors, first, last, y, stride, add_to);
  };
  if (m == 2) run(Constant<1>{});
  else if (m <= 4) run(Constant<2>{});
  else if (m <= 6) run(Constant<3>{});
  else run(Constant<4>{});
}

}  // namespace
