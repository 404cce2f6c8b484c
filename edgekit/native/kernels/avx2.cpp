/* avx2: needs AVX2, FMA and F16C (Haswell, Zen and later). */
#include <immintrin.h>

#define EK_HALF_CONVERSION
#include <cstdint>
namespace {
inline void load_halves(const uint16_t *x, int64_t n, float *y) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(x + i))));
  for (; i < n; ++i) y[i] = _cvtsh_ss(x[i]);
}
inline void store_halves(const float *x, int64_t n, uint16_t *y) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i *>(y + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; ++i) y[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}
}  // namespace
#include "common.inl"

namespace {

/* Eight sums of four products of unsigned codes and signed values. Codes below 16 cannot saturate the 16-bit step
 * (15 * 127 * 2 = 3810). */
inline __m256i dot4(__m256i codes, __m256i values) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(codes, values), _mm256_set1_epi16(1));
}

/* The same for codes to 255, as (code - 128) + 128: |code - 128| * 127 * 2 is at most 32512, which fits 16 bits. */
inline __m256i dot4_wide(__m256i codes, __m256i values) {
  const __m256i shifted = _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(0x80)));
  const __m256i products = _mm256_maddubs_epi16(_mm256_abs_epi8(shifted), _mm256_sign_epi8(values, shifted));
  return _mm256_madd_epi16(products, _mm256_set1_epi16(1));
}

inline float add(__m256 v) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

/* Products of one weight block with one row; `codes` and `values` stand at the block. Columns are worked on 32 codes'
 * bytes at a time: two groups with 4-bit codes (lanes 0-3 and 4-7 of the sums), one group with 8-bit ones. */
inline __m256 block4(const uint8_t *codes, const int8_t *chunk, int64_t column, const float *scales, int block) {
  const __m256i low = _mm256_set1_epi8(15);
  __m256 sum = _mm256_setzero_ps();
  for (int k = 0; k < block; k += 64) {
    /* A block of 32 has 16 bytes: the upper half of the register stays zero. */
    const __m256i packed = block == 32 ? _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(codes)))
                                       : _mm256_loadu_si256(reinterpret_cast<const __m256i *>(codes + k / 2));
    const __m256i clean = block == 32 ? _mm256_inserti128_si256(packed, _mm_setzero_si128(), 1) : packed;
    const int8_t *even = chunk + (column + k) / 128 * 128 + (column + k) % 128 / 2, *odd = even + 64;
    const __m256i dots = _mm256_add_epi32(
        dot4(_mm256_and_si256(clean, low), _mm256_loadu_si256(reinterpret_cast<const __m256i *>(even))),
        dot4(_mm256_and_si256(_mm256_srli_epi16(clean, 4), low), _mm256_loadu_si256(reinterpret_cast<const __m256i *>(odd))));
    const int64_t group = (column + k) / 32;
    const __m256 scale = block == 32 ? _mm256_set1_ps(scales[group])
                                     : _mm256_set_m128(_mm_set1_ps(scales[group + 1]), _mm_set1_ps(scales[group]));
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), scale, sum);
  }
  return sum;
}

inline __m256 block8(const uint8_t *codes, const int8_t *values, const float *scales, int64_t column, int block) {
  __m256 sum = _mm256_setzero_ps();
  for (int k = 0; k < block; k += 32) {
    const __m256i dots = dot4_wide(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(codes + k)),
                                   _mm256_loadu_si256(reinterpret_cast<const __m256i *>(values + column + k)));
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_set1_ps(scales[(column + k) / 32]), sum);
  }
  return sum;
}

void multiply_few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y,
                  int64_t stride) {
  const int64_t blocks = w.blocks(), blob = w.block * w.bits / 8;
  for (int64_t n = first; n < last; ++n) {
    __m256 sums[8];
    float zeros[8] = {};
    for (int r = 0; r < m; ++r) sums[r] = _mm256_setzero_ps();
    for (int64_t b = 0; b < blocks; ++b) {
      const uint8_t *codes = w.codes + n * w.row_bytes() + b * blob;
      const float scale = scale_at(w, n * blocks + b);
      /* 8-bit codes are taken less 128 above, so only the rest of the zero point is left to subtract. */
      const float zero = scale * static_cast<float>(zero_point_at(w, n, b) - (w.bits == 8 ? 128 : 0));
      for (int r = 0; r < m; ++r) {
        const __m256 dots = w.bits == 4 ? block4(codes, rows[r].values, b * w.block, rows[r].scales, w.block)
                                        : block8(codes, rows[r].values, rows[r].scales, b * w.block, w.block);
        sums[r] = _mm256_fmadd_ps(dots, _mm256_set1_ps(scale), sums[r]);
        zeros[r] += zero * rows[r].sums[b];
      }
    }
    for (int r = 0; r < m; ++r) y[r * stride + n] = add(sums[r]) - zeros[r] + (w.bias ? w.bias[n] : 0.0f);
  }
}

void multiply_many(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y,
                   int64_t stride, void *) {
  for (int r = 0; r < m; r += 8)
    multiply_few(w, rows + r, m - r < 8 ? m - r : 8, first, last, y + r * stride, stride);
}

size_t multiply_many_scratch(const Matrix &) { return 0; }

}  // namespace

namespace ek {
extern const Kernels kAvx2 = {
    "avx2",   quantize_row,  multiply_few, multiply_many, multiply_many_scratch,
    rms_norm, silu_multiply, rotate,       attend,        to_half,
};
}  // namespace ek
