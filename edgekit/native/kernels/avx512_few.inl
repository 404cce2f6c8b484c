/* The decode kernels multiply_one and multiply_few for AVX-512 VNNI; part of avx512vnni.cpp. A line is 64 bytes of codes: 128
 * columns of 4 bits or 64 of 8 bits. */
namespace {

template <typename F>
constexpr int kLine = 512 / F::kBits; /* columns in a line */

/* Prefetch distance of multiply_one in bytes: one page, because hardware prefetchers stop at page boundaries. One line in
 * eight is requested, into L2: this starts the hardware prefetcher on the next page, which does the rest. A request for every
 * line, into L1, keeps the miss buffers busy: on Zen 4, rows of 4480 bytes are then read at 24 GB/s instead of 31. A prefetch
 * past the end of the file does nothing. */
constexpr int64_t kPrefetch = 4096, kPrefetchEvery = 512;

inline void prefetch(const uint8_t *at) { _mm_prefetch(reinterpret_cast<const char *>(at), _MM_HINT_T1); }

/* Add the lanes of 16 registers: lane i of the result is the sum of the lanes of x[i]. */
inline __m512 add_each(const float (*x)[16]) {
  const auto pair = [&](int i) {
    const __m512 a = _mm512_load_ps(x[i]), b = _mm512_load_ps(x[i + 1]);
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  };
  const auto four = [&](int i) {
    const __m512i a = _mm512_castps_si512(pair(i)), b = _mm512_castps_si512(pair(i + 2));
    return _mm512_add_ps(_mm512_castsi512_ps(_mm512_unpacklo_epi64(a, b)), _mm512_castsi512_ps(_mm512_unpackhi_epi64(a, b)));
  };
  const auto halve = [](__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  return halve(halve(four(0), four(4)), halve(four(8), four(12)));
}

/* Keeps a loaded register: gcc 12 would load it again for its second use. */
EK_INLINE void keep([[maybe_unused]] __m512i &x) {
#ifdef __AVX512F__ /* not in an emulated build */
  __asm__("" : "+v"(x));
#endif
}

/* The products of a line with a row of activations: a lane has the sum of 8 columns (4-bit codes) or 4 (8-bit codes). */
template <typename F>
inline __m512 line_products(__m512i codes, const int8_t *values) {
  if constexpr (F::kBits == 8) {
    return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, _mm512_loadu_si512(values)));
  } else {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i even = _mm512_and_si512(codes, low), odd = _mm512_and_si512(_mm512_srli_epi16(codes, 4), low);
    const __m512i dots = _mm512_dpbusd_epi32(_mm512_setzero_si512(), even, _mm512_loadu_si512(values));
    return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(dots, odd, _mm512_loadu_si512(values + 64)));
  }
}

/* The block of each lane of a line, counted from the first block of 16; next() goes on to the next line. A lookup uses the
 * lowest four bits. */
template <typename F>
struct LaneBlocks {
  static constexpr int kStep = kLine<F> / F::kBlock; /* 0 for 8-bit blocks of 128, of which a line has half */
  __m512i index;

  LaneBlocks() {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    if constexpr (kStep > 0)
      index = _mm512_srli_epi32(lane, F::kBits == 4 ? F::kBlock == 32 ? 2 : F::kBlock == 64 ? 3 : 4 : F::kBlock == 32 ? 3 : 4);
    else
      index = _mm512_setzero_si512();
  }
  __m512i next() {
    const __m512i now = index;
    if constexpr (kStep > 0) {
      index = _mm512_add_epi32(index, _mm512_set1_epi32(kStep));
      return now;
    } else {
      index = _mm512_add_epi32(index, _mm512_set1_epi32(1));
      return _mm512_srli_epi32(now, 1);
    }
  }
};

/* Multiply output n of w with a row: the sum of the lanes is the product. The two sums of alternate lines hide the latency of
 * a multiply-add. */
template <typename F>
inline __m512 row_product(const Matrix &w, int64_t blocks, const QuantizedRow &row, int64_t n) {
  constexpr int64_t kBytes = F::kBlock * F::kBits / 8, kValues = 8 / F::kBits;
  const uint8_t *codes = w.codes + n * blocks * kBytes;
  __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
  int64_t at = 0;
  for (int64_t b = 0; b < blocks; b += 16) {
    const int64_t count = blocks - b < 16 ? blocks - b : 16, end = (b + count) * kBytes;
    const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
    const __m512 scales = load_scales16<F::kHalf>(w.scales, n * blocks + b, mask);
    const __m512 zeros = _mm512_mul_ps(scales, zero_points16<F::kBits>(w, blocks, n, b, count));
    odd = _mm512_fnmadd_ps(zeros, _mm512_maskz_loadu_ps(mask, row.sums + b), odd);
    const __m512 both = _mm512_mul_ps(scales, _mm512_maskz_loadu_ps(mask, row.scales + b));
    LaneBlocks<F> lane_blocks;
    const auto add_line = [&](__m512i line, int64_t from, __m512 sum) {
      keep(line);
      const __m512 scale = _mm512_permutexvar_ps(lane_blocks.next(), both);
      return _mm512_fmadd_ps(line_products<F>(line, row.values + from * kValues), scale, sum);
    };
    for (; at + 128 <= end; at += 128) {
      if (at % kPrefetchEvery == 0) prefetch(codes + at + kPrefetch);
      even = add_line(_mm512_loadu_si512(codes + at), at, even);
      odd = add_line(_mm512_loadu_si512(codes + at + 64), at + 64, odd);
    }
    if (at + 64 <= end) {
      even = add_line(_mm512_loadu_si512(codes + at), at, even);
      at += 64;
    }
    if (at < end) odd = add_line(_mm512_maskz_loadu_epi8((__mmask64{1} << (end - at)) - 1, codes + at), at, odd);
    at = end;
  }
  return _mm512_add_ps(even, odd);
}

/* The lanes of 16 outputs are added together: adding those of one output takes as long as a short row, and nothing else of
 * that row is left to do meanwhile. */
template <typename F>
void one(const Matrix &w, const QuantizedRow &row, int64_t first, int64_t last, float *y, bool add) {
  alignas(64) float lanes[16][16] = {};
  const int64_t blocks = w.blocks();
  for (int64_t n = first; n < last; n += 16) {
    const int64_t count = last - n < 16 ? last - n : 16;
    const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
    for (int i = 0; i < count; ++i) _mm512_store_ps(lanes[i], row_product<F>(w, blocks, row, n + i));
    __m512 sums = add_each(lanes);
    if (w.bias) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, w.bias + n));
    if (add) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, y + n));
    _mm512_mask_storeu_ps(y + n, mask, sums);
  }
}

inline __m512i broadcast4(const int8_t *values) {
  int32_t four;
  std::memcpy(&four, values, 4);
  return _mm512_set1_epi32(four);
}

/* Few rows of activations: 16 outputs at a time, whose lines are transposed, so that a lane has the columns of one output.
 * Nothing is added across lanes, and a scale counts for a whole block. */
constexpr int kFewTile = 8; /* rows of activations that share a pass over 16 lines */

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
        for (int r = 0; r < m; r += kFewTile)
          add_parts<F, kFewTile>(codes + part * kDwords, kDwords, rows + r, m - r < kFewTile ? m - r : kFewTile, from, scale, zero,
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
