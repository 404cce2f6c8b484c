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
template <typename F>
constexpr int kAlikeTile = F::kBits == 8 ? 2 : 4; /* 8 bits: the head at most, which is not worth the code */

}  // namespace

#include "decode256.inl"

namespace {

inline void prefetch(const uint8_t *at) { _mm_prefetch(reinterpret_cast<const char *>(at), _MM_HINT_T1); }

inline __m512i broadcast4(const int8_t *values) {
  int32_t four;
  std::memcpy(&four, values, 4);
  return _mm512_set1_epi32(four);
}

/* Add the products of 64 codes with four columns of a row of activations, the same for all lanes. Compilers load the columns by
 * an instruction of its own. */
EK_INLINE void add_products(__m512i &sums, __m512i codes, const int8_t *values) {
#ifdef __AVX512F__ /* not in an emulated build */
  typedef int32_t Four __attribute__((may_alias));
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sums) : "v"(codes), "m"(*reinterpret_cast<const Four *>(values)));
#else
  sums = _mm512_dpbusd_epi32(sums, codes, broadcast4(values));
#endif
}

/* Scales and zero points of 16 outputs: register b of 16 blocks has a lane for each output. */
struct BlockColumns {
  __m512i scales[16], zeros[16];
  int log2_block;
};

template <typename F>
EK_ALONE void load_block_columns(const Matrix &w, const int64_t n[16], int64_t b, BlockColumns *to) {
  const int64_t count = w.blocks() - b < 16 ? w.blocks() - b : 16;
  const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
  const auto load = [&](auto half) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      to->scales[i] = _mm512_castps_si512(load_scales16<decltype(half)::value>(w.scales, n[i] * w.blocks() + b, mask));
  };
  w.half_scales ? load(Constant<1>{}) : load(Constant<0>{});
  transpose(to->scales);
  if (!w.zero_points) return;
  for (int i = 0; i < 16; ++i) to->zeros[i] = _mm512_castps_si512(zero_points16<F::kBits>(w, w.blocks(), n[i], b, count));
  transpose(to->zeros);
}

/* More than kFewTile rows of activations: 16 outputs at a time, whose lines of 64 bytes are transposed, so that a lane has the
 * columns of one output. Nothing is added across lanes, and a scale counts for a whole block of 16 outputs. */
constexpr int kLineTile = 8; /* rows of activations that share a pass over 16 lines */

/* The transposition of 16 lines (avx512.inl) in 16 steps of four shuffles, to be done between products: those occupy two of
 * the four vector units of a Zen 4, shuffles need the others. Step `i` of 0 to 15; the last four store the result. */
EK_INLINE void transpose_step(int i, const uint8_t *const from[16], __mmask64 mask, __m512i r[16], __m512i *to) {
  const int q = i % 4;
  if (i < 4) {
    __m512i x[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) x[j] = _mm512_maskz_loadu_epi8(mask, from[4 * q + j]);
    r[4 * q] = _mm512_unpacklo_epi32(x[0], x[1]);
    r[4 * q + 1] = _mm512_unpackhi_epi32(x[0], x[1]);
    r[4 * q + 2] = _mm512_unpacklo_epi32(x[2], x[3]);
    r[4 * q + 3] = _mm512_unpackhi_epi32(x[2], x[3]);
  } else if (i < 8) {
    const __m512i x[4] = {r[4 * q], r[4 * q + 1], r[4 * q + 2], r[4 * q + 3]};
    r[4 * q] = _mm512_unpacklo_epi64(x[0], x[2]);
    r[4 * q + 1] = _mm512_unpackhi_epi64(x[0], x[2]);
    r[4 * q + 2] = _mm512_unpacklo_epi64(x[1], x[3]);
    r[4 * q + 3] = _mm512_unpackhi_epi64(x[1], x[3]);
  } else if (i < 12) {
    const __m512i x[4] = {r[q], r[q + 4], r[q + 8], r[q + 12]};
    r[q] = _mm512_shuffle_i32x4(x[0], x[1], 0x44);
    r[q + 4] = _mm512_shuffle_i32x4(x[0], x[1], 0xee);
    r[q + 8] = _mm512_shuffle_i32x4(x[2], x[3], 0x44);
    r[q + 12] = _mm512_shuffle_i32x4(x[2], x[3], 0xee);
  } else {
    _mm512_store_si512(to + q, _mm512_shuffle_i32x4(r[q], r[q + 8], 0x88));
    _mm512_store_si512(to + q + 4, _mm512_shuffle_i32x4(r[q], r[q + 8], 0xdd));
    _mm512_store_si512(to + q + 8, _mm512_shuffle_i32x4(r[q + 4], r[q + 12], 0x88));
    _mm512_store_si512(to + q + 12, _mm512_shuffle_i32x4(r[q + 4], r[q + 12], 0xdd));
  }
}

/* Keeps gcc 12 from loading the operands of many steps first, which spills them. */
EK_INLINE void in_order([[maybe_unused]] __m512i &x) {
#ifdef __AVX512F__ /* not in an emulated build */
  __asm__ __volatile__("" : "+v"(x) : : "memory");
#endif
}

/* 16 lines: where they are, and which of their bytes exist. */
struct Lines {
  const uint8_t *from[16];
  __mmask64 mask;
};

/* The format by which add_line() is compiled: of 8-bit codes, a line has 64, whether blocks have 64 or 128. */
template <typename F>
using LineFormat = Format<F::kBits, F::kBits == 8 && F::kBlock == 128 ? 64 : F::kBlock>;

/* Add a transposed line that starts at this column to the totals of kRows rows. If `to` is not null, transpose the lines `next`
 * to it meanwhile, and prefetch the 16 lines at `ahead`. The line has `dwords` registers of codes, all 16 unless it is the end of a row. */
template <typename F, int kRows>
EK_ALONE void add_line(const __m512i *codes, int dwords, const QuantizedRow *rows, int64_t column, const BlockColumns &columns,
                     bool has_zeros, const Lines &next, __m512i *to, const uint8_t *ahead, float (*total)[16]) {
  constexpr int kPart = F::kBlock * F::kBits / 32; /* dwords that share a scale */
  static_assert(kPart <= 16, "see LineFormat");
  const __m512i low = _mm512_set1_epi8(15);
  const int64_t at = F::kBits == 8 ? column : column / kChunk * kChunk + column % kChunk / 2;
  const int8_t *values[kRows];
  __m512i dots[kRows], r[16];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) values[i] = rows[i].values + at;
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (to) {
      prefetch(ahead + 64 * i);
      transpose_step(i, next.from, next.mask, r, to);
    }
    if (i % kPart == 0)
#pragma GCC unroll 16
      for (int j = 0; j < kRows; ++j) dots[j] = _mm512_setzero_si512();
    const __m512i code = _mm512_load_si512(codes + i);
    if constexpr (F::kBits == 8) {
#pragma GCC unroll 16
      for (int j = 0; j < kRows; ++j) add_products(dots[j], code, values[j] + 4 * i);
    } else {
      const __m512i even = _mm512_and_si512(code, low), odd = _mm512_and_si512(_mm512_srli_epi16(code, 4), low);
#pragma GCC unroll 16
      for (int j = 0; j < kRows; ++j) add_products(dots[j], even, values[j] + 4 * i);
#pragma GCC unroll 16
      for (int j = 0; j < kRows; ++j) add_products(dots[j], odd, values[j] + kChunk / 2 + 4 * i);
    }
#pragma GCC unroll 16
    for (int j = 0; j < kRows; ++j) in_order(dots[j]);
    if (i % kPart != kPart - 1 || i >= dwords) continue;
    const int64_t from = column + (i - kPart + 1) * (32 / F::kBits), b = from >> columns.log2_block;
    const __m512 scale = _mm512_castsi512_ps(columns.scales[b % 16]);
    const __m512 zero = has_zeros ? _mm512_castsi512_ps(columns.zeros[b % 16]) : _mm512_set1_ps(static_cast<float>(1 << (F::kBits - 1)));
    const bool starts = b << columns.log2_block == from; /* of 8-bit blocks of 128, a line has half */
#pragma GCC unroll 16
    for (int j = 0; j < kRows; ++j) {
      const __m512 less = _mm512_mul_ps(zero, _mm512_set1_ps(starts ? rows[j].sums[b] : 0.0f));
      const __m512 sum = _mm512_fmsub_ps(_mm512_cvtepi32_ps(dots[j]), _mm512_set1_ps(rows[j].scales[b]), less);
      _mm512_store_ps(total[j], _mm512_fmadd_ps(sum, scale, _mm512_load_ps(total[j])));
    }
  }
}

using AddLine = void (*)(const __m512i *, int, const QuantizedRow *, int64_t, const BlockColumns &, bool, const Lines &, __m512i *,
                         const uint8_t *, float (*)[16]);

/* Rows of activations in a tile: 4, 6, or 8. Missing ones are copies of the last one: code for odd numbers of rows would take a
 * tenth of the library. */
inline int padded_rows(int count) { return count <= 4 ? 4 : (count + 1) / 2 * 2; }

/* add_line() for 4, 6, or kRows rows. */
template <typename F, int kRows>
AddLine line_adder(int rows) {
  if constexpr (kRows > 4)
    if (rows < kRows) return line_adder<F, kRows - 2>(rows);
  return add_line<F, kRows>;
}

/* The 16 lines at byte `at` of the outputs from n on; outputs from `last` on are copies of output last - 1. */
inline void find_lines(const Matrix &w, int64_t bytes, int64_t n, int64_t last, int64_t at, Lines *lines) {
  for (int i = 0; i < 16; ++i) lines->from[i] = w.codes + (n + i < last ? n + i : last - 1) * bytes + at;
  lines->mask = bytes - at >= 64 ? ~__mmask64{0} : (__mmask64{1} << (bytes - at)) - 1;
}

/* Write the totals (m, 16) of outputs n to n + count - 1. */
inline void write_totals(const Matrix &w, const float (*total)[16], int m, int64_t n, int64_t count, bool add, float *y, int64_t stride) {
  const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
  const __m512 bias = w.bias ? _mm512_maskz_loadu_ps(mask, w.bias + n) : _mm512_setzero_ps();
  for (int r = 0; r < m; ++r) {
    float *to = y + r * stride + n;
    const __m512 before = add ? _mm512_add_ps(bias, _mm512_maskz_loadu_ps(mask, to)) : bias;
    _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(_mm512_load_ps(total[r]), before));
  }
}

template <typename F>
void few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
         bool add_to) {
  const int64_t bytes = w.row_bytes();
  const int rest = m <= kLineTile ? 0 : m / 2; /* a second tile of 4 to 8 rows */
  const int tile = m - rest, padded = padded_rows(tile), all = padded + (rest ? padded_rows(rest) : 0);
  const AddLine add = line_adder<LineFormat<F>, kLineTile>(padded), add_rest = line_adder<LineFormat<F>, kLineTile>(all - padded);
  QuantizedRow tiles[kMostFew];
  for (int r = 0; r < all; ++r) tiles[r] = rows[r < padded ? (r < tile ? r : tile - 1) : r - padded + tile < m ? r - padded + tile : m - 1];
  const bool has_zeros = w.zero_points != nullptr;
  alignas(64) float total[kMostFew][16];
  alignas(64) __m512i codes[2][16]; /* a transposed line, and the next one */
  BlockColumns columns;
  columns.log2_block = F::kBlock == 32 ? 5 : F::kBlock == 64 ? 6 : 7;
  Lines next;
  __m512i r[16];
  find_lines(w, bytes, first, last, 0, &next);
  for (int i = 0; i < 16; ++i) transpose_step(i, next.from, next.mask, r, codes[0]);
  int now = 0;
  for (int64_t n = first; n < last; n += 16) {
    std::memset(total, 0, sizeof total[0] * static_cast<size_t>(all));
    int64_t outputs[16];
    for (int i = 0; i < 16; ++i) outputs[i] = n + i < last ? n + i : last - 1;
    for (int64_t at = 0; at < bytes; at += 64, now = 1 - now) {
      const int64_t column = at * 8 / F::kBits;
      if (column % (16 * F::kBlock) == 0) load_block_columns<F>(w, outputs, column / F::kBlock, &columns);
      if (at + 64 < bytes)
        find_lines(w, bytes, n, last, at + 64, &next);
      else if (n + 16 < last)
        find_lines(w, bytes, n + 16, last, 0, &next);
      /* In the order of the file. One group ahead came too late for short rows: 4 and 8 rows of activations took a tenth longer.
       * One request with each step of the products: Zen 5 drops requests for which there is no miss buffer. 16 at once made 4 and
       * 8 rows of activations take up to a third longer for rows of 4480 bytes. */
      const uint8_t *ahead = w.codes + (n + 32) * bytes + at * 16;
      const int dwords = static_cast<int>(bytes - at >= 64 ? 16 : (bytes - at) / 4);
      add(codes[now], dwords, tiles, column, columns, has_zeros, next, codes[1 - now], ahead, total);
      if (rest) add_rest(codes[now], dwords, tiles + padded, column, columns, has_zeros, next, nullptr, nullptr, total + padded);
    }
    write_totals(w, total, tile, n, last - n < 16 ? last - n : 16, add_to, y, stride);
    write_totals(w, total + padded, rest, n, last - n < 16 ? last - n : 16, add_to, y + tile * stride, stride);
  }
}

}  // namespace
