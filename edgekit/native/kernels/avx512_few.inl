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

/* More than kFewTile rows of activations: 16 outputs at a time, whose lines of 64 bytes are transposed, so that a lane has the
 * columns of one output. Nothing is added across lanes, and a scale counts for a whole block of 16 outputs. */
constexpr int kLineTile = 8; /* rows of activations that share a pass over 16 lines */

/* A quarter of the transposition of a line of 16 outputs (avx512.inl), to be done between products: those occupy two of the four
 * vector units of a Zen, shuffles need the others. The last quarter stores the result. `mask` has the bytes that exist. */
EK_INLINE void transpose_quarter(int quarter, const uint8_t *const outputs[16], int64_t at, __mmask64 mask, __m512i r[16],
                                 __m512i *to) {
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    __m512i x[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      x[j] = quarter == 0 ? _mm512_maskz_loadu_epi8(mask, outputs[4 * q + j] + at) : quarter == 1 ? r[4 * q + j] : r[q + 4 * j];
    if (quarter == 0) {
      r[4 * q] = _mm512_unpacklo_epi32(x[0], x[1]);
      r[4 * q + 1] = _mm512_unpackhi_epi32(x[0], x[1]);
      r[4 * q + 2] = _mm512_unpacklo_epi32(x[2], x[3]);
      r[4 * q + 3] = _mm512_unpackhi_epi32(x[2], x[3]);
    } else if (quarter == 1) {
      r[4 * q] = _mm512_unpacklo_epi64(x[0], x[2]);
      r[4 * q + 1] = _mm512_unpackhi_epi64(x[0], x[2]);
      r[4 * q + 2] = _mm512_unpacklo_epi64(x[1], x[3]);
      r[4 * q + 3] = _mm512_unpackhi_epi64(x[1], x[3]);
    } else if (quarter == 2) {
      r[q] = _mm512_shuffle_i32x4(x[0], x[1], 0x44);
      r[q + 4] = _mm512_shuffle_i32x4(x[0], x[1], 0xee);
      r[q + 8] = _mm512_shuffle_i32x4(x[2], x[3], 0x44);
      r[q + 12] = _mm512_shuffle_i32x4(x[2], x[3], 0xee);
    } else {
      _mm512_store_si512(to + q, _mm512_shuffle_i32x4(x[0], x[2], 0x88));
      _mm512_store_si512(to + q + 4, _mm512_shuffle_i32x4(x[0], x[2], 0xdd));
      _mm512_store_si512(to + q + 8, _mm512_shuffle_i32x4(x[1], x[3], 0x88));
      _mm512_store_si512(to + q + 12, _mm512_shuffle_i32x4(x[1], x[3], 0xdd));
    }
  }
}

/* Keeps gcc 12 from loading the operands of many steps first, which spills them. */
EK_INLINE void in_order([[maybe_unused]] __m512i &x) {
#ifdef __AVX512F__ /* not in an emulated build */
  __asm__ __volatile__("" : "+v"(x) : : "memory");
#endif
}

/* Keeps pointers out of the registers that others need more. */
template <typename T, int kCount>
EK_INLINE void in_memory([[maybe_unused]] T (&x)[kCount]) {
  __asm__ __volatile__("" : "+m"(x));
}

/* The format by which add_span() is compiled: of 8-bit codes, a line has 64, whether blocks have 64 or 128. */
template <typename F>
using LineFormat = Format<F::kBits, F::kBits == 8 && F::kBlock == 128 ? 64 : F::kBlock>;

/* Transposed lines: line i is in lines[i & last]. */
struct Ring {
  __m512i lines[16][16];
  int64_t last; /* 1 or 15 */
};

/* Up to 8 lines of 16 outputs, whose scales are in one BlockColumns. */
struct Span {
  int64_t begin, end, bytes;                      /* of the codes of an output, which has so many in all */
  const uint8_t *const *codes, *const *following; /* of the outputs, and of the next 16 */
  int64_t position;                               /* of the first line in the ring */
  int log2_block;
};

/* What is requested from memory with each line, in the order of the file: as much as the line has, of outputs further on. With 16
 * outputs, requests came too late for short rows, and 4 and 8 rows of activations took a tenth longer. 32 short rows can be whole
 * pages, so that what is requested and what is read compete for the same sets of the caches: 8 rows took 7 % longer. */
struct Requests {
  static constexpr int64_t kAhead = 24; /* outputs */
  const uint8_t *codes, *scales, *zeros;
  int64_t scale_bytes, zero_bytes; /* of a line of 16 outputs */

  Requests(const Matrix &w, int64_t n)
      : codes(w.codes + (n + kAhead) * w.row_bytes()),
        scales(static_cast<const uint8_t *>(w.scales) + (n + kAhead) * w.blocks() * Outputs::scale_size(w)),
        zeros(w.zero_points + (n + kAhead) * Outputs::zero_row(w)),
        scale_bytes(16 * 512 / w.bits / w.block * Outputs::scale_size(w)), zero_bytes(w.zero_points ? 16 * 64 / w.block : 0) {}

  /* After 16 requests for codes, one with each step of the products: Zen 5 drops requests for which there is no miss buffer. 16 at
   * once made 4 and 8 rows of activations take up to a third longer for rows of 4480 bytes. */
  const uint8_t *next_line() {
    for (int64_t i = 0; i < scale_bytes; i += 64) prefetch(scales + i);
    prefetch(zeros);
    codes += 16 * 64;
    scales += scale_bytes;
    zeros += zero_bytes;
    return codes;
  }
};

inline __mmask64 line_mask(int64_t bytes, int64_t at) {
  return bytes - at >= 64 ? ~__mmask64{0} : (__mmask64{1} << (bytes - at)) - 1;
}

/* Add a span to the totals of kRows rows. Meanwhile, unless `requests` is null, transpose the line after each one. */
template <typename F, int kRows>
EK_ALONE void add_span(const Span &span, Requests *requests, Ring *ring, const QuantizedRow *rows, const BlockColumns &columns,
                       float (*total)[16]) {
  constexpr int kPart = F::kBlock * F::kBits / 32; /* dwords that share a scale */
  static_assert(kPart <= 16, "see LineFormat");
  static_assert(F::kBits == 8 || kChunk == 128, "4-bit codes: a line has the columns of a chunk");
  const int8_t *values[kRows];
  const float *scales[kRows], *sums[kRows];
#pragma GCC unroll 16
  for (int j = 0; j < kRows; ++j) {
    values[j] = rows[j].values + span.begin * 8 / F::kBits;
    scales[j] = rows[j].scales;
    sums[j] = rows[j].sums;
  }
  in_memory(scales);
  in_memory(sums);
  __m512i low = _mm512_set1_epi8(15);
  in_order(low); /* gcc would make it anew for each use */
  int64_t position = span.position;
  const uint8_t *ahead = requests ? requests->codes : nullptr;
  for (int64_t at = span.begin; at < span.end; at += 64) {
    const __m512i *codes = ring->lines[position & ring->last];
    __m512i *to = ring->lines[++position & ring->last];
    const bool ends = at + 64 >= span.bytes;
    const uint8_t *const *outputs = ends ? span.following : span.codes;
    const int64_t next = ends ? 0 : at + 64;
    const __mmask64 mask = line_mask(span.bytes, next);
    const int dwords = static_cast<int>(ends ? (span.bytes - at) / 4 : 16);
    __m512i dots[kRows], r[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      if (ahead) {
        prefetch(ahead + 64 * i);
        if (i % 4 == 0) transpose_quarter(i / 4, outputs, next, mask, r, to);
      }
      if (i % kPart == 0)
#pragma GCC unroll 16
        for (int j = 0; j < kRows; ++j) dots[j] = _mm512_setzero_si512();
      __m512i code = _mm512_load_si512(codes + i);
      in_order(code); /* compilers would load it for each use */
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
      const auto column = static_cast<uint64_t>(at + 4 * (i - kPart + 1)) * 8 / F::kBits;
      const uint64_t b = F::kBits == 8 ? column >> span.log2_block : column / F::kBlock;
      const bool starts = F::kBits == 4 || b << span.log2_block == column; /* of 8-bit blocks of 128, a line has half */
      const __m512 scale = columns.scales[b % 16], zero = columns.zeros[b % 16];
#pragma GCC unroll 16
      for (int j = 0; j < kRows; ++j) {
        const __m512 less = _mm512_mul_ps(zero, _mm512_set1_ps(starts ? sums[j][b] : 0.0f));
        const __m512 sum = _mm512_fmsub_ps(_mm512_cvtepi32_ps(dots[j]), _mm512_set1_ps(scales[j][b]), less);
        _mm512_store_ps(total[j], _mm512_fmadd_ps(sum, scale, _mm512_load_ps(total[j])));
      }
    }
    if (requests) ahead = requests->next_line();
#pragma GCC unroll 16
    for (int j = 0; j < kRows; ++j) values[j] += 512 / F::kBits;
  }
}

using AddSpan = void (*)(const Span &, Requests *, Ring *, const QuantizedRow *, const BlockColumns &, float (*)[16]);

/* Rows of activations in a tile: 4, 6, or 8. Missing ones are copies of the last one: code for odd numbers of rows would take a
 * tenth of the library. */
inline int padded_rows(int count) { return count <= 4 ? 4 : (count + 1) / 2 * 2; }

/* add_span() for 4, 6, or kRows rows. */
template <typename F, int kRows>
AddSpan span_adder(int rows) {
  if constexpr (kRows > 4)
    if (rows < kRows) return span_adder<F, kRows - 2>(rows);
  return add_span<F, kRows>;
}

/* Write the totals (m, 16) of outputs n to n + count - 1. */
inline void write_totals(const Matrix &w, const float (*total)[16], int m, int64_t n, int64_t count, bool add, float *y,
                         int64_t stride) {
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
  const int64_t bytes = w.row_bytes(), blocks = w.blocks();
  const int rest = m <= kLineTile ? 0 : m / 2; /* a second tile of 4 to 8 rows */
  const int tile = m - rest, padded = padded_rows(tile), all = padded + (rest ? padded_rows(rest) : 0);
  const AddSpan add = span_adder<LineFormat<F>, kLineTile>(padded), add_rest = span_adder<LineFormat<F>, kLineTile>(all - padded);
  QuantizedRow tiles[kMostFew];
  for (int r = 0; r < padded; ++r) tiles[r] = rows[r < tile ? r : tile - 1];
  for (int r = padded; r < all; ++r) tiles[r] = rows[r - padded + tile < m ? r - padded + tile : m - 1];
  alignas(64) float total[kMostFew][16];
  BlockColumns columns(F::kBits);
  Ring ring;
  ring.last = rest ? 15 : 1; /* two lines, or two spans, which the second tile reads again */
  Outputs outputs[2] = {{w, first, last}, {}}; /* those at hand, and the next ones */
  __m512i r[16];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) transpose_quarter(i, outputs[0].codes, 0, line_mask(bytes, 0), r, ring.lines[0]);
  constexpr int64_t kColumnBytes = 16 * F::kBlock * F::kBits / 8, kSpanBytes = kColumnBytes < 8 * 64 ? kColumnBytes : 8 * 64;
  int group = 0;
  Span span;
  span.bytes = bytes;
  span.position = 0;
  span.log2_block = F::kBlock == 32 ? 5 : F::kBlock == 64 ? 6 : 7;
  for (int64_t n = first; n < last; n += 16, group = 1 - group) {
    std::memset(total, 0, sizeof total[0] * static_cast<size_t>(all));
    outputs[1 - group] = Outputs(w, n + 16, last);
    Requests requests(w, n); /* anew, for the last line of an output may be short */
    span.codes = outputs[group].codes;
    span.following = outputs[1 - group].codes;
    for (span.begin = 0; span.begin < bytes; span.begin = span.end) {
      span.end = bytes - span.begin < kSpanBytes ? bytes : span.begin + kSpanBytes;
      if (span.begin % kColumnBytes == 0) columns.load<F::kBits>(w, outputs[group], blocks, span.begin * 8 / F::kBits / F::kBlock);
      add(span, &requests, &ring, tiles, columns, total);
      if (rest) add_rest(span, nullptr, &ring, tiles + padded, columns, total + padded);
      span.position += (span.end - span.begin + 63) / 64;
    }
    write_totals(w, total, tile, n, last - n < 16 ? last - n : 16, add_to, y, stride);
    write_totals(w, total + padded, rest, n, last - n < 16 ? last - n : 16, add_to, y + tile * stride, stride);
  }
}

}  // namespace
