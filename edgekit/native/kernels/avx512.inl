/* Source code shared by the AVX-512 tables: conversions and a transposition, followed by common.inl and attention.inl. */
#include <immintrin.h>

#define EK_LANES 16
#define EK_ATTEND_ROWS 12
#define EK_OWN_CONVERSIONS
#define EK_ADD_LANES(v) _mm512_reduce_add_ps(reinterpret_cast<__m512>(v))
#include <cstdint>
namespace {
inline __m512 half_lanes(const uint16_t *x) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(x))); }
inline __m512 byte_lanes(const int8_t *x) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(x))));
}
inline int32_t round32(const float *x, float inverse, int8_t *to) {
  const __m512 scale = _mm512_set1_ps(inverse);
  const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), scale));
  const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), scale));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm512_cvtepi32_epi8(a));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(to + 16), _mm512_cvtepi32_epi8(b));
  return _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
}
inline void store_halves(const float *x, int64_t n, uint16_t *y) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(y + i),
                        _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; ++i) y[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}
#define EK_PAIRS "avx512_pairs.inl"
}  // namespace
#include "common.inl"
#include "attention.inl"

namespace {

/* Transpose 16 registers of 16 dwords. */
inline void transpose(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) { /* r[i + 4j] has dword i of each 128-bit lane of rows 4j to 4j + 3 */
    const __m512i a = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x44), b = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x44), d = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xee);
    t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(a, c, 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(b, d, 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

/* The scales of 16 blocks from block `at` on, as float; zero and not read where `mask` has no bit. */
template <bool kHalf>
inline __m512 load_scales16(const void *scales, int64_t at, __mmask16 mask) {
  if (kHalf) return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t *>(scales) + at));
  return _mm512_maskz_loadu_ps(mask, static_cast<const float *>(scales) + at);
}

/* The zero points of `count` blocks (at most 16) of row n from block `at` on, as float. */
template <int kBits>
inline __m512 zero_points16(const Matrix &w, int64_t blocks, int64_t n, int64_t at, int64_t count) {
  if (!w.zero_points) return _mm512_set1_ps(static_cast<float>(1 << (kBits - 1)));
  const int64_t bytes = kBits == 8 ? count : (count + 1) / 2;
  const __mmask16 mask = static_cast<__mmask16>((1u << bytes) - 1);
  const uint8_t *row = w.zero_points + n * ((blocks * kBits + 7) / 8) + at * kBits / 8;
  __m128i zeros = _mm_maskz_loadu_epi8(mask, row);
  if (kBits == 4) {
    const __m128i low = _mm_set1_epi8(15);
    zeros = _mm_unpacklo_epi8(_mm_and_si128(zeros, low), _mm_and_si128(_mm_srli_epi16(zeros, 4), low));
  }
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(zeros));
}

}  // namespace
