/* avx2: needs AVX2, FMA and F16C (Haswell, Zen and later). */
#include <immintrin.h>

#define EK_LANES 8
#define EK_ATTEND_ROWS 6
#define EK_OWN_CONVERSIONS
#include <cstdint>
namespace {
inline __m256 half_lanes(const uint16_t *x) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(x))); }
inline __m256 byte_lanes(const int8_t *x) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(x))));
}
inline int32_t round32(const float *x, float inverse, int8_t *to) {
  __m256i four[4];
  for (int i = 0; i < 4; ++i) four[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(inverse)));
  const __m256i a = _mm256_packs_epi32(four[0], four[1]), b = _mm256_packs_epi32(four[2], four[3]);
  /* The pack instructions work on 128-bit lanes: restore the order of the dwords. */
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), bytes);
  const __m256i biased = _mm256_xor_si256(bytes, _mm256_set1_epi8(static_cast<char>(0x80)));
  const __m256i sums = _mm256_sad_epu8(biased, _mm256_setzero_si256());
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  return _mm_cvtsi128_si32(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half))) - 32 * 128;
}
inline void store_halves(const float *x, int64_t n, uint16_t *y) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i *>(y + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; ++i) y[i] = _cvtss_sh(x[i], _MM_FROUND_TO_NEAREST_INT);
}
#define EK_PAIRS "avx2_pairs.inl"
}  // namespace
#include "common.inl"
#include "attention.inl"

namespace {

inline __m256i load256(const void *at) { return _mm256_loadu_si256(static_cast<const __m256i *>(at)); }

/* Add neighbours: eight int32 from sixteen int16 sums. */
inline __m256i widen(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }

}  // namespace

#include "avx2_few.inl"

namespace {

/* Prefill: 16 rows of weights are unpacked once into a panel and multiplied with every row of activations. A step of a panel
 * is four columns of the 16 weight rows; it is multiplied with a broadcast of four columns of an activation row.
 *
 *   codes    (padded k / 4, 16, 4)   columns in the order of Int8Pack::values; 8-bit codes minus 128, as int8
 *   scales   (blocks, 16)
 *   zeros    (blocks, 16)            scale * zero point; 8-bit codes: scale * (zero point - 128)
 */
constexpr int kPanelRows = 16;
constexpr int kTileRows = 4; /* activation rows at a time: 4 * 2 registers of sums, 2 of codes, 1 broadcast */

struct Panel {
  uint8_t *codes;
  float *scales, *zeros;
  Panel(uint8_t *scratch, const Matrix &w)
      : codes(scratch),
        scales(reinterpret_cast<float *>(scratch + padded_k(w.k) * kPanelRows)),
        zeros(scales + w.blocks() * kPanelRows) {}
};

size_t multiply_many_scratch(const Matrix &w, int64_t) {
  return static_cast<size_t>(padded_k(w.k) * kPanelRows + 2 * w.blocks() * kPanelRows * 4);
}

/* Transpose 8 registers of 8 dwords. */
inline void transpose(__m256i r[8]) {
  __m256i t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x31);
  }
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}

/* Unpack the weight rows first to first + 15; rows from `last` on are copies of row last - 1. */
template <int kBits>
void unpack_panel(const Matrix &w, int64_t first, int64_t last, const Panel &panel) {
  const __m256i low = _mm256_set1_epi8(15), high = _mm256_set1_epi8(static_cast<char>(0x80));
  const int64_t bytes = w.row_bytes(), blocks = w.blocks();
  const uint8_t *source[kPanelRows];
  for (int i = 0; i < kPanelRows; ++i) {
    const int64_t n = first + i < last ? first + i : last - 1;
    source[i] = w.codes + n * bytes;
    for (int64_t b = 0; b < blocks; ++b) {
      const float scale = scale_at(w, n * blocks + b);
      panel.scales[b * kPanelRows + i] = scale;
      panel.zeros[b * kPanelRows + i] = scale * static_cast<float>(zero_point_at(w, n, b) - (kBits == 8 ? 128 : 0));
    }
  }
  uint8_t tail[32] = {};
  for (int64_t at = 0; at < bytes; at += 32)
    for (int half = 0; half < 2; ++half) {
      __m256i dwords[8];
      for (int i = 0; i < 8; ++i) {
        const uint8_t *from = source[half * 8 + i] + at;
        if (bytes - at < 32) { /* 16 bytes are left: one block of 32 columns */
          std::memcpy(tail, from, static_cast<size_t>(bytes - at));
          from = tail;
        }
        dwords[i] = load256(from);
      }
      transpose(dwords);
      uint8_t *to = panel.codes + at * 8 / kBits * kPanelRows + half * 32;
      for (int i = 0; i < 8; ++i) {
        if constexpr (kBits == 4) {
          _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + 128 * i), _mm256_and_si256(dwords[i], low));
          _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + 128 * i + 64),
                              _mm256_and_si256(_mm256_srli_epi16(dwords[i], 4), low));
        } else {
          _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + 64 * i), _mm256_xor_si256(dwords[i], high));
        }
      }
    }
}

inline __m256i broadcast4(const int8_t *values) {
  int32_t four;
  std::memcpy(&four, values, 4);
  return _mm256_set1_epi32(four);
}

/* The sums of 32 columns, for kTileRows rows of a pack and 16 weight rows: 8 steps of codes, 64 bytes apart. */
EK_INLINE void sums4(const uint8_t *codes, const int8_t *values, __m256i sums[kTileRows][2]) {
  /* The sums of 32 columns of 4-bit codes fit into 16 bits: 8 * 2 * 15 * 127 = 30480. */
#pragma GCC unroll 8
  for (int step = 0; step < 8; ++step) {
    const __m256i a = load256(codes + 64 * step), b = load256(codes + 64 * step + 32);
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r) {
      const __m256i four = broadcast4(values + (step * kPackRows + r) * 4);
      const __m256i x = _mm256_maddubs_epi16(a, four), y = _mm256_maddubs_epi16(b, four);
      sums[r][0] = step ? _mm256_add_epi16(sums[r][0], x) : x;
      sums[r][1] = step ? _mm256_add_epi16(sums[r][1], y) : y;
      /* Without this, gcc 12 computes all products first and spills them. */
      __asm__("" : "+x"(sums[r][0]), "+x"(sums[r][1]));
    }
  }
  for (int r = 0; r < kTileRows; ++r)
    for (int i = 0; i < 2; ++i) sums[r][i] = widen(sums[r][i]);
}

EK_INLINE void sums8(const uint8_t *codes, const int8_t *values, __m256i sums[kTileRows][2]) {
  for (int r = 0; r < kTileRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  for (int step = 0; step < 8; ++step)
    for (int i = 0; i < 2; ++i) {
      const __m256i code = load256(codes + 64 * step + 32 * i), size = _mm256_abs_epi8(code);
      for (int r = 0; r < kTileRows; ++r) {
        const __m256i four = broadcast4(values + (step * kPackRows + r) * 4);
        sums[r][i] = _mm256_add_epi32(sums[r][i], widen(_mm256_maddubs_epi16(size, _mm256_sign_epi8(four, code))));
      }
    }
}

/* The sums of 32 columns from column k on. */
template <typename F>
EK_INLINE void sums32(const Panel &panel, const Int8Pack &pack, int row, int64_t k, __m256i sums[kTileRows][2]) {
  const uint8_t *codes = panel.codes + k * kPanelRows;
  const int8_t *values = pack.values + (k * kPackRows + row * 4);
  if constexpr (F::kBits == 4)
    sums4(codes, values, sums);
  else
    sums8(codes, values, sums);
}

/* Multiply rows row to row + kTileRows - 1 of a pack with a panel; out (kTileRows, 16). The sums of a block and the totals are
 * kept in memory, which leaves the registers to the sums of 32 columns. */
template <typename F>
inline void tile(const Matrix &w, const Panel &panel, const Int8Pack &pack, int row, float *out) {
  alignas(32) __m256i block[2 * kTileRows];
  for (int i = 0; i < kTileRows * kPanelRows; i += 8) _mm256_storeu_ps(out + i, _mm256_setzero_ps());
  for (int64_t b = 0; b < w.blocks(); ++b) {
    __m256i sums[kTileRows][2];
    sums32<F>(panel, pack, row, b * F::kBlock, sums);
    for (int at = 32; at < F::kBlock; at += 32) {
#pragma GCC unroll 8
      for (int i = 0; i < 2 * kTileRows; ++i) {
        if (at > 32) sums[i / 2][i % 2] = _mm256_add_epi32(sums[i / 2][i % 2], _mm256_load_si256(block + i));
        _mm256_store_si256(block + i, sums[i / 2][i % 2]);
      }
      sums32<F>(panel, pack, row, b * F::kBlock + at, sums);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m256 scale = _mm256_loadu_ps(panel.scales + b * kPanelRows + 8 * i);
      const __m256 zero = _mm256_loadu_ps(panel.zeros + b * kPanelRows + 8 * i);
#pragma GCC unroll 8
      for (int r = 0; r < kTileRows; ++r) {
        float *y = out + r * kPanelRows + 8 * i;
        __m256i whole = sums[r][i];
        if (F::kBlock > 32) whole = _mm256_add_epi32(whole, _mm256_load_si256(block + 2 * r + i));
        const __m256 before = _mm256_fnmadd_ps(zero, _mm256_broadcast_ss(pack.sums + b * kPackRows + row + r), _mm256_loadu_ps(y));
        const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(whole), _mm256_broadcast_ss(pack.scales + b * kPackRows + row + r));
        _mm256_storeu_ps(y, _mm256_fmadd_ps(scaled, scale, before));
      }
    }
  }
}

template <typename F>
void many(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y, int64_t stride, bool add_to,
          uint8_t *scratch) {
  const Panel panel(scratch, w);
  const auto pack_size = static_cast<int64_t>(int8_pack_bytes(w));
  for (int64_t n = first; n < last; n += kPanelRows) {
    unpack_panel<F::kBits>(w, n, last, panel);
    const int64_t count = last - n < kPanelRows ? last - n : kPanelRows;
    for (int64_t r = 0; r < m; r += kTileRows) { /* rows of a pack beyond m are zero */
      float out[kTileRows * kPanelRows];
      tile<F>(w, panel, Int8Pack(packs + r / kPackRows * pack_size, w), static_cast<int>(r % kPackRows), out);
      for (int i = 0; i < kTileRows && r + i < m; ++i) {
        float *to = y + (r + i) * stride + n;
        for (int64_t j = 0; j < count; ++j)
          to[j] = out[i * kPanelRows + j] + (w.bias ? w.bias[n + j] : 0.0f) + (add_to ? to[j] : 0.0f);
      }
    }
  }
}

void multiply_one(const Matrix &w, const QuantizedRow &row, int64_t first, int64_t last, float *y, bool add_to) {
  with_format(w, [&](auto format) { outputs<decltype(format), 1>(w, &row, 1, first, last, y, 0, add_to); });
}

void multiply_few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                  bool add_to) {
  with_format(w, [&](auto format) { tiles<decltype(format), kFewTile<decltype(format)>, false>(w, rows, m, first, last, y, stride, add_to); });
}

void multiply_alike(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                    bool add) {
  with_format(w, [&](auto format) { tiles<decltype(format), kAlikeTile, true>(w, rows, m, first, last, y, stride, add); });
}

void multiply_many(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y, int64_t stride,
                   bool add_to, uint8_t *scratch) {
  with_format(w, [&](auto format) { many<decltype(format)>(w, packs, m, first, last, y, stride, add_to, scratch); });
}

/* Eight independent chains of the two instructions of the product, to hide their latency. */
int64_t spin(int64_t iterations) {
  __m256i sums[8], codes = _mm256_set1_epi8(3);
  for (int i = 0; i < 8; ++i) sums[i] = _mm256_setzero_si256();
  for (int64_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      sums[i] = _mm256_add_epi16(sums[i], _mm256_maddubs_epi16(codes, codes));
      __asm__ __volatile__("" : "+x"(codes)); /* prevents folding */
    }
  }
  for (int i = 0; i < 8; ++i) __asm__ __volatile__("" : : "x"(sums[i]));
  return iterations * 8 * 32;
}

}  // namespace

namespace ek {
extern const Kernels kAvx2 = {
    "avx2",    quantize_row,  multiply_one,          multiply_few, int8_pack_bytes,
    int8_pack, multiply_many, multiply_many_scratch, rms_norm,     silu_multiply,
    rotate,    store_kv,      attend,                attend_scratch, spin,
    false,     512,           multiply_alike,
};
}  // namespace ek
