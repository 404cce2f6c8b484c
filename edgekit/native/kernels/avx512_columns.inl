/* Sixteen outputs at a time for AVX-512: where they are, and their scales and zero points with a lane for each output; part of
 * avx512vnni.cpp. */
namespace {

/* Outputs n to n + 15. Those from `last` on are copies of output last - 1. */
struct Outputs {
  const uint8_t *codes[16], *scales[16], *zeros[16]; /* each in its array of Matrix; no zeros if that has none */

  Outputs() = default;
  Outputs(const Matrix &w, int64_t n, int64_t last) {
    const int64_t bytes = w.row_bytes(), scale_bytes = w.blocks() * scale_size(w), zero_bytes = zero_row(w);
    for (int i = 0; i < 16; ++i) {
      const int64_t row = n + i < last ? n + i : last - 1;
      codes[i] = w.codes + row * bytes;
      scales[i] = static_cast<const uint8_t *>(w.scales) + row * scale_bytes;
      zeros[i] = w.zero_points + row * zero_bytes;
    }
  }

  static int64_t scale_size(const Matrix &w) { return w.half_scales ? 2 : 4; }
  static int64_t zero_row(const Matrix &w) { return w.zero_points ? (w.blocks() * w.bits + 7) / 8 : 0; }
};

/* Dword c of 16 rows of 32 bytes in to[c]. `mask` has the pairs of bytes that are read; the others are zero. */
inline void load_dword_columns(const uint8_t *const rows[16], int64_t at, __mmask16 mask, __m512i to[8]) {
  __m512i r[8], t[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) { /* four rows after each other in each 128-bit lane, at the end: rows 0, 4, 8 and 12 begin one */
    const int row = i < 4 ? i : i + 4;
    r[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi16(mask, rows[row] + at)),
                              _mm256_maskz_loadu_epi16(mask, rows[row + 4] + at), 1);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) { /* r[i + c] has dwords c and c + 4 of eight rows */
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    to[c] = _mm512_shuffle_i32x4(r[c], r[c + 4], 0x88);
    to[c + 4] = _mm512_shuffle_i32x4(r[c], r[c + 4], 0xdd);
  }
}

/* Half b of 16 rows of 16 halves in to[b], as float. */
inline void load_half_columns(const uint8_t *const rows[16], int64_t at, __mmask16 mask, __m512 to[16]) {
  __m512i pairs[8];
  load_dword_columns(rows, at, mask, pairs);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    to[2 * i] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs[i]));
    to[2 * i + 1] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs[i], 16)));
  }
}

/* Half byte b of 16 rows of 8 bytes in to[b], as float. `mask` has the bytes that are read; the others are zero. */
inline void load_nibble_columns(const uint8_t *const rows[16], int64_t at, __mmask16 mask, __m512 to[16]) {
  __m128i pairs[8], dwords[2][4]; /* the first and the second four bytes of four rows */
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    pairs[i] = _mm_unpacklo_epi32(_mm_maskz_loadu_epi8(mask, rows[2 * i] + at), _mm_maskz_loadu_epi8(mask, rows[2 * i + 1] + at));
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    dwords[0][i] = _mm_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]);
    dwords[1][i] = _mm_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m128i *x = dwords[half];
    const __m256i a = _mm256_inserti128_si256(_mm256_castsi128_si256(x[0]), x[1], 1);
    const __m256i b = _mm256_inserti128_si256(_mm256_castsi128_si256(x[2]), x[3], 1);
    const __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1), low = _mm512_set1_epi32(15);
#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; ++i)
      to[8 * half + static_cast<int>(i)] = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(all, 4 * i), low));
  }
}

/* Scales and zero points of 16 blocks: register b has a lane for each of 16 outputs. */
struct BlockColumns {
  __m512 scales[16], zeros[16];

  /* For a matrix without zero points, these are here once and for all. */
  explicit BlockColumns(int bits) {
    for (__m512 &zero : zeros) zero = _mm512_set1_ps(static_cast<float>(1 << (bits - 1)));
  }

  template <int kBits>
  EK_ALONE void load(const Matrix &w, const Outputs &outputs, int64_t blocks, int64_t b) {
    const int64_t count = blocks - b < 16 ? blocks - b : 16;
    const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
    if (w.half_scales) {
      load_half_columns(outputs.scales, 2 * b, mask, scales);
    } else {
      __m512i rows[16];
      for (int i = 0; i < 16; ++i) rows[i] = _mm512_maskz_loadu_epi32(mask, outputs.scales[i] + 4 * b);
      transpose(rows);
      for (int i = 0; i < 16; ++i) scales[i] = _mm512_castsi512_ps(rows[i]);
    }
    if (!w.zero_points) return;
    if (kBits == 4) {
      load_nibble_columns(outputs.zeros, b / 2, static_cast<__mmask16>((1u << (count + 1) / 2) - 1), zeros);
      return;
    }
    __m512i rows[16];
    for (int i = 0; i < 16; ++i) rows[i] = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, outputs.zeros[i] + b));
    transpose(rows);
    for (int i = 0; i < 16; ++i) zeros[i] = _mm512_cvtepi32_ps(rows[i]);
  }
};

}  // namespace
