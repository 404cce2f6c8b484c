/* avx512vnni: needs AVX-512 F, BW, VL and VNNI, AVX2, FMA and F16C (Ice Lake, Zen 4 and later). */
#include "avx512.inl"

#include "avx512_columns.inl"
#include "avx512_few.inl"

namespace {

/* Prefill: 16 rows of weights are unpacked once into a panel and multiplied with every row of activations. A register of a
 * panel has four columns of each of the 16 weight rows; it is multiplied with a broadcast of four columns of an activation
 * row. VPDPBUSD multiplies unsigned with signed bytes. Activations x are packed as x + 128, and the zero point is subtracted
 * from the codes, so that it costs nothing afterwards: the sums of a block start from -128 times the sum of its codes. */
constexpr int kPanelRows = 16;
constexpr int kTileRows = 8; /* activation rows at a time: 8 integer sums, 8 totals, codes and broadcasts: 24 of 32 registers */

struct Panel {
  uint8_t *codes; /* (padded k / 4) registers of int8: 4-bit codes minus their zero point, 8-bit codes minus 128 */
  float *scales;  /* (blocks, 16) */
  int32_t *start; /* (blocks, 16): -128 times the sum of the codes */
  float *zeros;   /* (blocks, 16), 8-bit codes only: zero point - 128 */
  Panel(uint8_t *scratch, const Matrix &w)
      : codes(scratch),
        scales(reinterpret_cast<float *>(scratch + padded_k(w.k) * kPanelRows)),
        start(reinterpret_cast<int32_t *>(scales + w.blocks() * kPanelRows)),
        zeros(reinterpret_cast<float *>(start + w.blocks() * kPanelRows)) {}
};

size_t multiply_many_scratch(const Matrix &w, int64_t) {
  return static_cast<size_t>(padded_k(w.k) * kPanelRows + 3 * w.blocks() * kPanelRows * 4);
}

void pack(const float *x, int64_t stride, int count, const Matrix &w, int64_t begin, int64_t end, uint8_t *pack) {
  int8_pack(x, stride, count, w, begin, end, pack);
  for (int64_t i = begin * kPackRows; i < padded_k(end) * kPackRows; i += 64)
    _mm512_storeu_si512(pack + i, _mm512_xor_si512(_mm512_loadu_si512(pack + i), _mm512_set1_epi8(static_cast<char>(0x80))));
}

/* Unpack the weight rows first to first + 15; rows from `last` on are copies of row last - 1. */
template <typename F>
void unpack_panel(const Matrix &w, int64_t first, int64_t last, const Panel &panel) {
  constexpr int64_t kBytes = F::kBlock * F::kBits / 8;
  const __m512i low = _mm512_set1_epi8(15), ones = _mm512_set1_epi8(1);
  const int64_t blocks = w.blocks(), bytes = blocks * kBytes;
  const Outputs outputs(w, first, last);
  BlockColumns columns(F::kBits);
  __m512i sums = _mm512_setzero_si512(), less = _mm512_set1_epi8(F::kBits == 8 ? static_cast<char>(0x80) : 8);
  const auto add = [&](uint8_t *to, __m512i codes) {
    codes = _mm512_sub_epi8(codes, less);
    _mm512_storeu_si512(to, codes);
    sums = _mm512_dpbusd_epi32(sums, ones, codes);
  };
  for (int64_t at = 0; at < bytes; at += 64) {
    const __mmask64 mask = bytes - at >= 64 ? ~__mmask64{0} : (__mmask64{1} << (bytes - at)) - 1;
    __m512i dwords[16];
    for (int i = 0; i < kPanelRows; ++i) dwords[i] = _mm512_maskz_loadu_epi8(mask, outputs.codes[i] + at);
    transpose(dwords);
    uint8_t *to = panel.codes + at * 8 / F::kBits * kPanelRows;
    for (int i = 0; i < 16 && at + 4 * i < bytes; ++i) {
      const int64_t b = (at + 4 * i) / kBytes;
      if ((at + 4 * i) % kBytes == 0) {
        if (b % 16 == 0) columns.load<F::kBits>(w, outputs, blocks, b);
        _mm512_storeu_ps(panel.scales + b * kPanelRows, columns.scales[b % 16]);
        sums = _mm512_setzero_si512();
        if (w.zero_points && F::kBits == 8)
          _mm512_storeu_ps(panel.zeros + b * kPanelRows, _mm512_sub_ps(columns.zeros[b % 16], _mm512_set1_ps(128.0f)));
        if (w.zero_points && F::kBits == 4)
          less = _mm512_mullo_epi32(_mm512_cvtps_epi32(columns.zeros[b % 16]), _mm512_set1_epi32(0x01010101));
      }
      if (F::kBits == 4) { /* of the eight columns of a dword, first the even ones, then the odd ones */
        add(to + 128 * i, _mm512_and_si512(dwords[i], low));
        add(to + 128 * i + 64, _mm512_and_si512(_mm512_srli_epi16(dwords[i], 4), low));
      } else {
        add(to + 64 * i, dwords[i]);
      }
      if ((at + 4 * i + 4) % kBytes == 0)
        _mm512_storeu_si512(panel.start + b * kPanelRows, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7)));
    }
  }
}

/* Multiply rows row to row + kTileRows - 1 of a pack with a panel; out (kTileRows, 16). */
template <typename F>
inline void tile(const Matrix &w, const Panel &panel, const Int8Pack &pack, int row, float *out) {
  const int64_t blocks = w.blocks();
  __m512 total[kTileRows];
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) total[r] = _mm512_setzero_ps();
  for (int64_t b = 0; b < blocks; ++b) {
    __m512i dots[kTileRows];
    const __m512i start = _mm512_loadu_si512(panel.start + b * kPanelRows);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) dots[r] = start;
    const uint8_t *codes = panel.codes + b * F::kBlock * kPanelRows;
    const int8_t *values = pack.values + (b * F::kBlock * kPackRows + row * 4);
#pragma GCC unroll 2
    for (int step = 0; step < F::kBlock / 4; ++step) {
      const __m512i code = _mm512_loadu_si512(codes + 64 * step);
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r)
        dots[r] = _mm512_dpbusd_epi32(dots[r], broadcast4(values + (step * kPackRows + r) * 4), code);
    }
    const __m512 scale = _mm512_loadu_ps(panel.scales + b * kPanelRows);
    const float *scales = pack.scales + b * kPackRows + row, *sums = pack.sums + b * kPackRows + row;
    if (F::kBits == 8 && w.zero_points) {
      const __m512 zero = _mm512_mul_ps(scale, _mm512_loadu_ps(panel.zeros + b * kPanelRows));
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) total[r] = _mm512_fnmadd_ps(zero, _mm512_set1_ps(sums[r]), total[r]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r)
      total[r] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(dots[r]), _mm512_set1_ps(scales[r])), scale, total[r]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) _mm512_storeu_ps(out + 16 * r, total[r]);
}

template <typename F>
void panel_products(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y, int64_t stride,
                    bool add, uint8_t *scratch) {
  const Panel panel(scratch, w);
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

void multiply_one(const Matrix &w, const QuantizedRow &row, int64_t first, int64_t last, float *y, bool add) {
  with_format(w, [&](auto format) { outputs<decltype(format), 1>(w, &row, 1, first, last, y, 0, add); });
}

void multiply_few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                  bool add) {
  with_format(w, [&](auto format) {
    if (m <= kFewTile)
      tiles<decltype(format), kFewTile, true>(w, rows, m, first, last, y, stride, add);
    else
      few<decltype(format)>(w, rows, m, first, last, y, stride, add);
  });
}

void multiply_alike(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                    bool add) {
  with_format(w, [&](auto format) { tiles<decltype(format), kAlikeTile<decltype(format)>, true>(w, rows, m, first, last, y, stride, add); });
}

void multiply_many(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y, int64_t stride,
                   bool add, uint8_t *scratch) {
  with_format(w, [&](auto format) { panel_products<decltype(format)>(w, packs, m, first, last, y, stride, add, scratch); });
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
    "avx512vnni", quantize_row,  multiply_one,          multiply_few, int8_pack_bytes,
    pack,         multiply_many, multiply_many_scratch, rms_norm,     silu_multiply,
    rotate,       store_kv,      attend,                attend_scratch, spin,
    false,     512,           multiply_alike,
};
}  // namespace ek
