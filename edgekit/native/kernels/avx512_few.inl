/* What decode256.inl needs, for AVX-512 VNNI; part of avx512vnni.cpp. */
namespace {

inline __m256i load256(const void *at) { return _mm256_loadu_si256(static_cast<const __m256i *>(at)); }

constexpr int kOffset8 = 0;

/* Keeps a loaded register: gcc 12 would load it again for its second use. */
EK_INLINE void keep([[maybe_unused]] __m256i &x) {
#ifdef __AVX512F__ /* not in an emulated build */
  __asm__("" : "+x"(x));
#endif
}

template <typename F>
struct UnitCodes {
  __m256i part[F::kBits == 4 && F::kBlock < 128 ? 2 : F::kBits == 4 ? 4 : F::kBlock / 32];
};

template <typename F>
EK_INLINE UnitCodes<F> load_unit(const uint8_t *codes) {
  UnitCodes<F> unit;
  if constexpr (F::kBits == 4) {
    const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 2
    for (int i = 0; i < (F::kBlock == 128 ? 2 : 1); ++i) {
      __m256i packed = load256(codes + 32 * i);
      keep(packed);
      unit.part[2 * i] = _mm256_and_si256(packed, low);
      unit.part[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(packed, 4), low);
    }
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < F::kBlock / 32; ++i) unit.part[i] = load256(codes + 32 * i);
  }
  return unit;
}

template <typename F>
EK_INLINE __m256i unit_sums(const UnitCodes<F> &unit, const int8_t *values, int64_t column) {
  __m256i sums = _mm256_setzero_si256();
  if constexpr (F::kBits == 4) {
    values += column / kChunk * kChunk + column % kChunk / 2;
#pragma GCC unroll 2
    for (int i = 0; i < (F::kBlock == 128 ? 2 : 1); ++i) {
      sums = _mm256_dpbusd_epi32(sums, unit.part[2 * i], load256(values + 32 * i));
      sums = _mm256_dpbusd_epi32(sums, unit.part[2 * i + 1], load256(values + kChunk / 2 + 32 * i));
    }
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < F::kBlock / 32; ++i) sums = _mm256_dpbusd_epi32(sums, unit.part[i], load256(values + column + 32 * i));
  }
  return sums;
}

constexpr int kFewTile = 2; /* more rows of activations are multiplied by few() */

}  // namespace

#include "decode256.inl"

namespace {

template <typename F>
constexpr int kLine = 512 / F::kBits; /* columns in a line */

inline void prefetch(const uint8_t *at) { _mm_prefetch(reinterpret_cast<const char *>(at), _MM_HINT_T1); }

inline __m512i broadcast4(const int8_t *values) {
  int32_t four;
  std::memcpy(&four, values, 4);
  return _mm512_set1_epi32(four);
}

/* Scales and zero points of 16 outputs: register b of 16 blocks has a lane for each output. */
struct BlockColumns {
  __m512i scales[16], zeros[16];
};

template <typename F>
inline void load_block_columns(const Matrix &w, const int64_t n[16], int64_t b, BlockColumns *to) {
  const int64_t count = w.blocks() - b < 16 ? w.blocks() - b : 16;
  const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
  for (int i = 0; i < 16; ++i) to->scales[i] = _mm512_castps_si512(load_scales16<F::kHalf>(w.scales, n[i] * w.blocks() + b, mask));
  transpose(to->scales);
  if (!w.zero_points) return;
  for (int i = 0; i < 16; ++i) to->zeros[i] = _mm512_castps_si512(zero_points16<F::kBits>(w, w.blocks(), n[i], b, count));
  transpose(to->zeros);
}

/* More than kFewTile rows of activations: 16 outputs at a time, whose lines of 64 bytes are transposed, so that a lane has the
 * columns of one output. Nothing is added across lanes, and a scale counts for a whole block of 16 outputs. */
constexpr int kLineTile = 8; /* rows of activations that share a pass over 16 lines */

/* Add a part of a transposed line, at most one block, to the totals of kRows rows: `dwords` registers of codes. */
template <typename F, int kRows>
inline void add_part(const __m512i *codes, int dwords, const QuantizedRow *rows, int64_t column, __m512 scale, __m512 zero,
                     bool starts, float (*total)[16]) {
  const __m512i low = _mm512_set1_epi8(15);
  const int64_t b = column / F::kBlock, at = F::kBits == 8 ? column : column / kChunk * kChunk + column % kChunk / 2;
  const int8_t *values[kRows];
  __m512i dots[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    values[r] = rows[r].values + at;
    dots[r] = _mm512_setzero_si512();
  }
#pragma GCC unroll 4
  for (int i = 0; i < dwords; ++i) {
    const __m512i code = _mm512_load_si512(codes + i);
    if constexpr (F::kBits == 8) {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) dots[r] = _mm512_dpbusd_epi32(dots[r], code, broadcast4(values[r] + 4 * i));
    } else {
      const __m512i even = _mm512_and_si512(code, low), odd = _mm512_and_si512(_mm512_srli_epi16(code, 4), low);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) dots[r] = _mm512_dpbusd_epi32(dots[r], even, broadcast4(values[r] + 4 * i));
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) dots[r] = _mm512_dpbusd_epi32(dots[r], odd, broadcast4(values[r] + kChunk / 2 + 4 * i));
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const __m512 sum = _mm512_set1_ps(starts ? rows[r].sums[b] : 0.0f);
    const __m512 less = _mm512_fmsub_ps(_mm512_cvtepi32_ps(dots[r]), _mm512_set1_ps(rows[r].scales[b]), _mm512_mul_ps(zero, sum));
    _mm512_store_ps(total[r], _mm512_fmadd_ps(less, scale, _mm512_load_ps(total[r])));
  }
}

/* add_part() for `count` rows, at most kRows. */
template <typename F, int kRows>
inline void add_parts(const __m512i *codes, int dwords, const QuantizedRow *rows, int count, int64_t column, __m512 scale,
                      __m512 zero, bool starts, float (*total)[16]) {
  if constexpr (kRows > 1)
    if (count < kRows) return add_parts<F, kRows - 1>(codes, dwords, rows, count, column, scale, zero, starts, total);
  add_part<F, kRows>(codes, dwords, rows, column, scale, zero, starts, total);
}

template <typename F>
void few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride, bool add) {
  constexpr int kPart = F::kBlock < kLine<F> ? F::kBlock : kLine<F>; /* columns of a part */
  constexpr int kDwords = kPart * F::kBits / 32;
  const int64_t bytes = w.row_bytes();
  for (int64_t n = first; n < last; n += 16) {
    const int64_t count = last - n < 16 ? last - n : 16;
    int64_t outputs[16]; /* outputs from `last` on are copies of output last - 1 */
    for (int i = 0; i < 16; ++i) outputs[i] = i < count ? n + i : last - 1;
    alignas(64) float total[kMostFew][16] = {};
    alignas(64) BlockColumns columns;
    alignas(64) __m512i codes[16];
    for (int64_t at = 0; at < bytes; at += 64) {
      const int64_t column = at * 8 / F::kBits, b = column / F::kBlock;
      if (column % (16 * F::kBlock) == 0) load_block_columns<F>(w, outputs, b, &columns);
      const __mmask64 mask = bytes - at >= 64 ? ~__mmask64{0} : (__mmask64{1} << (bytes - at)) - 1;
      for (int i = 0; i < 16; ++i) {
        codes[i] = _mm512_maskz_loadu_epi8(mask, w.codes + outputs[i] * bytes + at);
        prefetch(w.codes + (n + 16) * bytes + at * 16 + i * 64); /* the next 16 outputs, in the order of the file */
      }
      transpose(codes);
      const int parts = static_cast<int>(bytes - at >= 64 ? 64 / (4 * kDwords) : (bytes - at) / (4 * kDwords));
      for (int part = 0; part < parts; ++part) {
        const int64_t from = column + part * kPart;
        const int of16 = static_cast<int>(from / F::kBlock % 16);
        const __m512 scale = _mm512_castsi512_ps(columns.scales[of16]);
        const __m512 zero = w.zero_points ? _mm512_castsi512_ps(columns.zeros[of16]) : _mm512_set1_ps(static_cast<float>(1 << (F::kBits - 1)));
        for (int r = 0; r < m; r += kLineTile)
          add_parts<F, kLineTile>(codes + part * kDwords, kDwords, rows + r, m - r < kLineTile ? m - r : kLineTile, from, scale, zero,
                                 from % F::kBlock == 0, total + r);
      }
    }
    const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
    const __m512 bias = w.bias ? _mm512_maskz_loadu_ps(mask, w.bias + n) : _mm512_setzero_ps();
    for (int r = 0; r < m; ++r) {
      float *to = y + r * stride + n;
      const __m512 before = add ? _mm512_add_ps(bias, _mm512_maskz_loadu_ps(mask, to)) : bias;
      _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(_mm512_load_ps(total[r]), before));
    }
  }
}

}  // namespace
