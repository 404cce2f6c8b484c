/* avx512vnni: needs AVX-512 F, BW, VL and VNNI, AVX2, FMA and F16C (Ice Lake, Zen 4 and later). */
#include "avx512.inl"

namespace {

/* Blocks in a register of codes: it holds 128 columns of 4 bits or 64 of 8 bits. */
template <typename F>
constexpr int kScales = 512 / F::kBits > F::kBlock ? 512 / F::kBits / F::kBlock : 1;

/* Repeat each of kCount numbers in 16 / kCount neighbouring lanes; 4 numbers become 0000 1111 2222 3333. Lane j of a product
 * has the sum of 8 columns from 8j on (4-bit) or of 4 columns from 4j on (8-bit), so groups and blocks are consecutive
 * lanes. */
template <int kCount>
inline __m512 spread(__m128 few) {
  constexpr int kEach = 16 / kCount;
  const __m512i lanes = _mm512_setr_epi32(0 / kEach, 1 / kEach, 2 / kEach, 3 / kEach, 4 / kEach, 5 / kEach, 6 / kEach,
                                          7 / kEach, 8 / kEach, 9 / kEach, 10 / kEach, 11 / kEach, 12 / kEach,
                                          13 / kEach, 14 / kEach, 15 / kEach);
  return _mm512_permutexvar_ps(lanes, _mm512_castps128_ps512(few));
}

/* The scales of the blocks in one register, from block `at` on, in the lanes of their columns. `left`: blocks left in the
 * row. */
template <typename F>
inline __m512 block_scales(const void *scales, int64_t at, int64_t left) {
  if (kScales<F> == 1) return _mm512_set1_ps(F::kHalf ? _cvtsh_ss(static_cast<const uint16_t *>(scales)[at])
                                                      : static_cast<const float *>(scales)[at]);
  const __mmask8 mask = static_cast<__mmask8>(left >= kScales<F> ? (1 << kScales<F>) - 1 : (1 << left) - 1);
  const __m128 few = F::kHalf ? _mm_cvtph_ps(_mm_maskz_loadu_epi16(mask, static_cast<const uint16_t *>(scales) + at))
                              : _mm_maskz_loadu_ps(mask, static_cast<const float *>(scales) + at);
  return spread<kScales<F>>(few);
}

/* The scales of the activations in one register: a lane for every 8 (4-bit) or 4 (8-bit) columns. */
template <int kBits>
inline __m512 row_scales(const float *scales) {
  if (kBits == 4) return _mm512_loadu_ps(scales);
  const __m512i lanes = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return _mm512_permutexvar_ps(lanes, _mm512_castps256_ps512(_mm256_loadu_ps(scales)));
}

/* Prefetch distance in bytes: one page, because hardware prefetchers stop at page boundaries. On Zen 4, one thread reads a
 * (8960, 1536) matrix at 20 GB/s instead of 15; distances of 1024 and 2048 gain half as much. A prefetch past the end of
 * the file does nothing. */
constexpr int64_t kPrefetch = 4096;

/* Decode: the rows of weights one after another; each is read once for all kRows rows of activations. */
template <typename F, int kRows>
void row_products(const Matrix &w, const QuantizedRow *rows, int64_t first, int64_t last, float *y, int64_t stride, bool add) {
  const __m512i low = _mm512_set1_epi8(15);
  const int64_t bytes = w.row_bytes(), blocks = w.blocks();
  for (int64_t n = first; n < last; ++n) {
    const uint8_t *codes = w.codes + n * bytes;
    __m512 sums[kRows];
    for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_ps();
    const auto step = [&](int64_t at, __m512i packed) {
      const int64_t column = at * 8 / F::kBits, block = column / F::kBlock;
      const __m512 scale = block_scales<F>(w.scales, n * blocks + block, blocks - block);
      for (int r = 0; r < kRows; ++r) {
        const int8_t *values = rows[r].values + column;
        __m512i dots;
        if (F::kBits == 4) {
          dots = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(packed, low), _mm512_loadu_si512(values));
          dots = _mm512_dpbusd_epi32(dots, _mm512_and_si512(_mm512_srli_epi16(packed, 4), low),
                                     _mm512_loadu_si512(values + 64));
        } else {
          dots = _mm512_dpbusd_epi32(_mm512_setzero_si512(), packed, _mm512_loadu_si512(values));
        }
        const __m512 scales = row_scales<F::kBits>(rows[r].scales + column / 8);
        sums[r] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales), scale, sums[r]);
      }
    };
    int64_t at = 0;
    for (; at + 64 <= bytes; at += 64) {
      _mm_prefetch(reinterpret_cast<const char *>(codes + at + kPrefetch), _MM_HINT_T0);
      step(at, _mm512_loadu_si512(codes + at));
    }
    if (at < bytes) step(at, _mm512_maskz_loadu_epi8((__mmask64{1} << (bytes - at)) - 1, codes + at));
    for (int64_t b = 0; b < blocks; b += 16) {
      const int64_t count = blocks - b < 16 ? blocks - b : 16;
      const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
      const __m512 scaled = _mm512_mul_ps(load_scales16<F::kHalf>(w.scales, n * blocks + b, mask),
                                          zero_points16<F::kBits>(w, n, b, count));
      for (int r = 0; r < kRows; ++r)
        sums[r] = _mm512_fnmadd_ps(scaled, _mm512_maskz_loadu_ps(mask, rows[r].sums + b), sums[r]);
    }
    const float bias = w.bias ? w.bias[n] : 0.0f;
    for (int r = 0; r < kRows; ++r) {
      float *to = y + r * stride + n;
      *to = _mm512_reduce_add_ps(sums[r]) + bias + (add ? *to : 0.0f);
    }
  }
}

/* Prefill: 16 rows of weights are unpacked once into a panel and multiplied with every row of activations. A register of a
 * panel has four columns of each of the 16 weight rows; it is multiplied with a broadcast of four columns of an activation
 * row. */
constexpr int kPanelRows = 16;
constexpr int kTileRows = 8; /* activation rows at a time: 8 integer sums, 8 block sums and 8 totals, 24 of 32 registers */

struct Panel {
  uint8_t *codes; /* (padded k / 4) registers */
  float *scales;  /* (blocks, 16) */
  float *zeros;   /* (blocks, 16): scale * zero point */
};

/* Unpack the weight rows first to first + 15; rows from `last` on are copies of row last - 1. */
template <typename F>
void unpack_panel(const Matrix &w, int64_t first, int64_t last, const Panel &panel) {
  const __m512i low = _mm512_set1_epi8(15);
  const int64_t bytes = w.row_bytes(), blocks = w.blocks();
  const uint8_t *source[kPanelRows];
  for (int i = 0; i < kPanelRows; ++i) {
    const int64_t n = first + i < last ? first + i : last - 1;
    source[i] = w.codes + n * bytes;
    for (int64_t b = 0; b < blocks; ++b) {
      const float scale = scale_at(w, n * blocks + b);
      panel.scales[b * kPanelRows + i] = scale;
      panel.zeros[b * kPanelRows + i] = scale * static_cast<float>(zero_point_at(w, n, b));
    }
  }
  for (int64_t at = 0; at < bytes; at += 64) {
    const __mmask64 mask = bytes - at >= 64 ? ~__mmask64{0} : (__mmask64{1} << (bytes - at)) - 1;
    __m512i dwords[16];
    for (int i = 0; i < kPanelRows; ++i) dwords[i] = _mm512_maskz_loadu_epi8(mask, source[i] + at);
    transpose(dwords);
    uint8_t *to = panel.codes + at * 8 / F::kBits * kPanelRows;
    for (int i = 0; i < 16; ++i) {
      if (F::kBits == 4) { /* of the eight columns of a dword, first the even ones, then the odd ones */
        _mm512_storeu_si512(to + 128 * i, _mm512_and_si512(dwords[i], low));
        _mm512_storeu_si512(to + 128 * i + 64, _mm512_and_si512(_mm512_srli_epi16(dwords[i], 4), low));
      } else {
        _mm512_storeu_si512(to + 64 * i, dwords[i]);
      }
    }
  }
}

inline __m512i broadcast4(const int8_t *values) {
  int32_t four;
  std::memcpy(&four, values, 4);
  return _mm512_set1_epi32(four);
}

/* Multiply rows row to row + kTileRows - 1 of a pack with a panel; out (kTileRows, 16). */
template <typename F>
inline void tile(const Matrix &w, const Panel &panel, const Int8Pack &pack, int row, float *out) {
  const int64_t blocks = w.blocks();
  __m512 total[kTileRows];
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) total[r] = _mm512_setzero_ps();
  for (int64_t b = 0; b < blocks; ++b) {
    __m512 sums[kTileRows];
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) sums[r] = _mm512_setzero_ps();
    for (int64_t column = b * F::kBlock; column < (b + 1) * F::kBlock; column += kGroup) {
      __m512i dots[kTileRows];
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) dots[r] = _mm512_setzero_si512();
      const uint8_t *codes = panel.codes + column * kPanelRows;
      const int8_t *values = pack.values + (column * kPackRows + row * 4);
#pragma GCC unroll 16
      for (int step = 0; step < kGroup / 4; ++step) {
        const __m512i code = _mm512_loadu_si512(codes + 64 * step);
#pragma GCC unroll 16
        for (int r = 0; r < kTileRows; ++r)
          dots[r] = _mm512_dpbusd_epi32(dots[r], code, broadcast4(values + (step * kPackRows + r) * 4));
      }
      const float *scales = pack.scales + column / kGroup * kPackRows + row;
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r)
        sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r]), _mm512_set1_ps(scales[r]), sums[r]);
    }
    const __m512 scale = _mm512_loadu_ps(panel.scales + b * kPanelRows), zero = _mm512_loadu_ps(panel.zeros + b * kPanelRows);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      const __m512 before = _mm512_fnmadd_ps(zero, _mm512_set1_ps(pack.sums[b * kPackRows + row + r]), total[r]);
      total[r] = _mm512_fmadd_ps(sums[r], scale, before);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) _mm512_storeu_ps(out + 16 * r, total[r]);
}

template <typename F>
void panel_products(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y, int64_t stride,
                    bool add, uint8_t *scratch) {
  float *scales = reinterpret_cast<float *>(scratch + padded_k(w.k) * kPanelRows);
  const Panel panel = {scratch, scales, scales + w.blocks() * kPanelRows};
  const auto pack_size = static_cast<int64_t>(int8_pack_bytes(w));
  float out[kTileRows * 16];
  for (int64_t n = first; n < last; n += kPanelRows) {
    unpack_panel<F>(w, n, last, panel);
    const int64_t count = last - n < kPanelRows ? last - n : kPanelRows;
    const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
    const __m512 bias = w.bias ? _mm512_maskz_loadu_ps(mask, w.bias + n) : _mm512_setzero_ps();
    for (int64_t r = 0; r < m; r += kTileRows) { /* rows of a pack beyond m are zeros */
      tile<F>(w, panel, Int8Pack(packs + r / kPackRows * pack_size, w), static_cast<int>(r % kPackRows), out);
      for (int i = 0; i < kTileRows && r + i < m; ++i) {
        float *to = y + (r + i) * stride + n;
        const __m512 before = add ? _mm512_add_ps(bias, _mm512_maskz_loadu_ps(mask, to)) : bias;
        _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(_mm512_loadu_ps(out + 16 * i), before));
      }
    }
  }
}

/* row_products() for m rows, at most kRows. */
template <typename F, int kRows>
inline void few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride, bool add) {
  if constexpr (kRows > 1)
    if (m < kRows) return few<F, kRows - 1>(w, rows, m, first, last, y, stride, add);
  row_products<F, kRows>(w, rows, first, last, y, stride, add);
}

void multiply_few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                  bool add) {
  with_format(w, [&](auto format) { few<decltype(format), 8>(w, rows, m, first, last, y, stride, add); });
}

void multiply_many(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y, int64_t stride,
                   bool add, uint8_t *scratch) {
  with_format(w, [&](auto format) { panel_products<decltype(format)>(w, packs, m, first, last, y, stride, add, scratch); });
}

size_t multiply_many_scratch(const Matrix &w, int64_t) {
  return static_cast<size_t>(padded_k(w.k) * kPanelRows + 2 * w.blocks() * kPanelRows * 4);
}

/* Ten independent chains, to hide the latency of the instruction. */
int64_t spin(int64_t iterations) {
  __m512i sums[10], codes = _mm512_set1_epi8(3);
  for (int i = 0; i < 10; ++i) sums[i] = _mm512_setzero_si512();
  for (int64_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 10
    for (int i = 0; i < 10; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], codes, codes);
    __asm__ __volatile__("" : "+v"(codes));
  }
  for (int i = 0; i < 10; ++i) __asm__ __volatile__("" : : "v"(sums[i]));
  return iterations * 10 * 64;
}

}  // namespace

namespace ek {
extern const Kernels kAvx512Vnni = {
    "avx512vnni",  quantize_row,          multiply_few, int8_pack_bytes, int8_pack,
    multiply_many, multiply_many_scratch, rms_norm,     silu_multiply,   rotate,
    store_kv,      attend,                attend_scratch, spin,
};
}  // namespace ek
