/* Few rows of activations with SDOT; included by neon_few.inl. */
namespace {

/* Two outputs of kRows rows share what is loaded. The lanes of `total` are rows of activations, so that lane sums and scales
 * cost one instruction for four rows. Vector instructions for 64 bytes of 4-bit codes in a block of 128 and 8 rows: 8 split
 * the codes, 64 multiply, 8 clear the sums, 14 add lanes and apply scales, 3 are for the scale of the weights. */
template <int kBits, int kBlock, bool kZeros, int kRows>
__attribute__((noinline)) void few_outputs(const Matrix &w, const QuantizedRow *rows, int m, const BlockFactors *factors,
                                           int64_t first, int64_t last, float *y, int64_t stride, bool add_to) {
  constexpr int kBytes = kBlock * kBits / 8, kQuads = (kRows + 3) / 4;
  const int64_t blocks = w.blocks();
  const int8_t *values[kRows]; /* rows beyond m are copies */
  for (int r = 0; r < kRows; ++r) values[r] = rows[r < m ? r : m - 1].values;
  for (int64_t n = first; n < last; n += 2) {
    const int64_t second = n + 1 < last ? n + 1 : n;
    const uint8_t *codes[2] = {w.codes + n * w.row_bytes(), w.codes + second * w.row_bytes()};
    OutputFactors of;
    output_factors<kBits, kZeros>(w, n, second, &of);
    float32x4_t total[2][kQuads];
    for (int i = 0; i < 2 * kQuads; ++i) total[i / kQuads][i % kQuads] = vdupq_n_f32(0);
    for (int64_t b = 0; b < blocks; ++b) {
      int32x4_t dots[2][kQuads * 4];
      const int64_t value = first_value<kBits, kBlock>(b);
#pragma GCC unroll 16
      for (int i = 0; i < 8 * kQuads; ++i) dots[i / (4 * kQuads)][i % (4 * kQuads)] = vdupq_n_s32(0);
      for (int at = 0; at < kBytes; at += 64)
        for (int i = 0; i < 2; ++i) __builtin_prefetch(codes[i] + b * kBytes + at + kPrefetch);
#pragma GCC unroll 8
      for (int at = 0; at < kBytes; at += 16) {
        int8x16_t operands[2][2];
        for (int i = 0; i < 2; ++i) split_codes<kBits>(codes[i] + b * kBytes + at, operands[i]);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
          for (int half = 0; half < 8 / kBits; ++half) {
            const int8x16_t x = vld1q_s8(values[r] + value + at + half * kChunk / 2);
            for (int i = 0; i < 2; ++i) dots[i][r] = dot4<kBits>(dots[i][r], operands[i][half], x);
          }
        }
        if constexpr (kRows > 4) /* or compilers load more values early than there are registers */
          __asm__ __volatile__("" : "+w"(dots[0][kRows - 1]), "+w"(dots[1][kRows - 1])::"memory");
      }
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const float scale = of.scales[2 * b + i], zero = of.zeros[2 * b + i];
#pragma GCC unroll 2
        for (int q = 0; q < kQuads; ++q) {
          const float32x4_t scales = vmulq_n_f32(vld1q_f32(factors[b].scales + 4 * q), scale);
          total[i][q] = vfmaq_f32(total[i][q], vcvtq_f32_s32(add_lanes_of(dots[i] + 4 * q)), scales);
          if (kZeros || kMiddle<kBits>) total[i][q] = vfmsq_n_f32(total[i][q], vld1q_f32(factors[b].sums + 4 * q), zero);
        }
      }
    }
    for (int64_t i = 0; i < 2 && n + i < last; ++i) {
      float sums[4 * kQuads];
      for (int q = 0; q < kQuads; ++q) vst1q_f32(sums + 4 * q, total[i][q]);
      for (int r = 0; r < m; ++r) {
        float *to = y + r * stride + n + i;
        *to = sums[r] + (w.bias ? w.bias[n + i] : 0.0f) + (add_to ? *to : 0.0f);
      }
    }
  }
}

/* few_outputs() for m rows, 2 to kFewRows. Five and seven rows use the kernels of six and eight. */
template <int kBits, int kBlock, bool kZeros>
inline void few_products(const Matrix &w, const QuantizedRow *rows, int m, const BlockFactors *factors, int64_t first,
                         int64_t last, float *y, int64_t stride, bool add_to) {
  const auto run = [&](auto count) {
    few_outputs<kBits, kBlock, kZeros, decltype(count)::value>(w, rows, m, factors, first, last, y, stride, add_to);
  };
  if (m == 2) run(Constant<2>{});
  else if (m == 3) run(Constant<3>{});
  else if (m == 4) run(Constant<4>{});
  else if (m <= 6) run(Constant<6>{});
  else run(Constant<8>{});
}

}  // namespace
