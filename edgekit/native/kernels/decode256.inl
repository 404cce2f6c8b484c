/* The decode kernels multiply_one and multiply_few for registers of 32 bytes. AVX-512 tables use them too: the products of a
 * block fit into one such register, and a Zen 4 splits larger ones.
 *
 * A unit is what one scale, or two, apply to: a block, or two blocks of 32 columns of 4-bit codes. The file that includes this
 * one provides
 *
 *   UnitCodes<F>                        the unpacked codes of a unit
 *   load_unit<F>(codes)                 unpacks them
 *   unit_sums(unit, values, column)     the products of a unit that starts at this column with a row of activations, added to
 *                                       eight int32
 *   kOffset8                            what was subtracted from 8-bit codes
 *
 * Its kFewTile and kAlikeTile are the rows of activations that tiles() multiplies together: as many as have their sums, or two
 * sums each, in registers. */
#ifndef EK_EMULATED
#include <cpuid.h>
#endif

namespace {

template <typename F>
constexpr int kUnitColumns = F::kBits == 4 && F::kBlock == 32 ? 64 : F::kBlock;
template <typename F>
constexpr int kUnitBytes = kUnitColumns<F> * F::kBits / 8;
template <typename F>
constexpr int kUnitBlocks = kUnitColumns<F> / F::kBlock;

/* Whether this is an AMD processor of family 26, Zen 5. Asking the processor takes microseconds in a virtual machine. */
inline bool is_zen5() {
#ifndef EK_EMULATED
  static int known = 0; /* 1: no, 2: yes */
  int answer = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (!answer) {
    unsigned level = 0, vendor = 0, b = 0, c = 0, d = 0;
    __cpuid(0, level, vendor, c, d);
    __cpuid(1, level, b, c, d);
    answer = vendor == signature_AMD_ebx && (level >> 8 & 15) + (level >> 20 & 255) == 26 ? 2 : 1;
    __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
  }
  return answer == 2;
#else
  return false;
#endif
}

/* Where to prefetch, into L2: two pages ahead. Hardware prefetchers follow a long row of codes, but stop at the end of a page:
 * one line in eight starts them there, and more requests would only occupy the miss buffers. Short rows interrupt them too
 * often, and two rows of activations take too long for them, so each line is requested. A slice has each line requested two
 * outputs ahead. On Zen 4 one thread then reads rows of 4480 bytes at 96 % of the speed of a plain reading loop and rows of 768
 * bytes at 90 %; with one request for each line one page ahead, into L1, it is 66 % and 70 %. On Zen 5, which has more miss
 * buffers, a request for each line of 4480 bytes takes 0.79 of the time in one thread, and 0.93 in two. A prefetch past the end
 * of the file does nothing. */
struct Ahead {
  int64_t distance, every;
  Ahead(int64_t row_bytes, bool sliced, int rows)
      : distance(sliced ? 2 * row_bytes : 8192), every(sliced || row_bytes < 1536 || rows > 1 || is_zen5() ? 64 : 512) {}
  EK_INLINE void prefetch(const uint8_t *codes, int64_t at) const {
    if ((at & (every - 1)) == 0) _mm_prefetch(reinterpret_cast<const char *>(codes + at + distance), _MM_HINT_T1);
  }
};

EK_INLINE void request(const void *array, int64_t at, int64_t bytes) {
  for (int64_t end = at + bytes; at < end; at += 64) _mm_prefetch(static_cast<const char *>(array) + at, _MM_HINT_T1);
}

/* Request the scales and zero points of outputs n + 16 to n + 23, which are elsewhere in the file than the codes. On Zen 5, one and
 * two rows of activations take 0.98 and 0.97 of the time with this. */
EK_ALONE void request_factors(const Matrix &w, int64_t blocks, int64_t n) {
  const int64_t scale_bytes = blocks * (w.half_scales ? 2 : 4), zero_bytes = (blocks * w.bits + 7) / 8;
  request(w.scales, (n + 16) * scale_bytes, 8 * scale_bytes);
  if (w.zero_points) request(w.zero_points, (n + 16) * zero_bytes, 8 * zero_bytes);
  __asm__ __volatile__(""); /* gcc takes a call that only requests memory for one without effect, and removes it */
}

/* Eight floats, of which the lanes without a mask are zero and not read. */
inline __m256i lane_mask(int64_t count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
}
struct Whole {
  EK_INLINE __m256 load(const float *from) const { return _mm256_loadu_ps(from); }
};
struct Masked {
  __m256i mask;
  EK_INLINE __m256 load(const float *from) const { return _mm256_maskload_ps(from, mask); }
};

/* The scales of `left` blocks from block `at` on, at most 8; the other lanes are zero. */
EK_INLINE __m256 some_scales(const Matrix &w, int64_t at, int64_t left) {
  if (!w.half_scales) {
    const float *from = static_cast<const float *>(w.scales) + at;
    return left >= 8 ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, lane_mask(left));
  }
  uint16_t halves[8] = {};
  const uint16_t *from = static_cast<const uint16_t *>(w.scales) + at;
  if (left >= 8) return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
  std::memcpy(halves, from, static_cast<size_t>(left) * 2);
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(halves)));
}

/* A number of which the first `count` bytes, at least 1, are read; the others are zero. */
template <typename T>
inline T few_bytes(const uint8_t *from, int64_t count) {
  T number = 0;
  if (count >= static_cast<int64_t>(sizeof number))
    std::memcpy(&number, from, sizeof number);
  else
    for (int64_t i = count - 1; i >= 0; --i) number = static_cast<T>(number << 8 | from[i]);
  return number;
}

/* The zero points of eight blocks of row n from block `at` on, reduced by what was subtracted from the codes. Only the first
 * `left` lanes are valid. */
template <typename F>
inline __m256 some_zeros(const Matrix &w, int64_t blocks, int64_t n, int64_t at, int64_t left) {
  constexpr int kLess = F::kBits == 8 ? kOffset8 : 0;
  if (!w.zero_points) return _mm256_set1_ps(static_cast<float>((1 << (F::kBits - 1)) - kLess));
  __m256i wide;
  if constexpr (F::kBits == 8) {
    const uint64_t zeros = few_bytes<uint64_t>(w.zero_points + n * blocks + at, left);
    wide = _mm256_sub_epi32(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(zeros))), _mm256_set1_epi32(kLess));
  } else {
    const auto zeros = few_bytes<uint32_t>(w.zero_points + n * ((blocks + 1) / 2) + at / 2, (left + 1) / 2);
    wide = _mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int32_t>(zeros)), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    wide = _mm256_and_si256(wide, _mm256_set1_epi32(15));
  }
  return _mm256_cvtepi32_ps(wide);
}

/* The combined scales of a unit, in the lanes of its sums. */
template <typename F>
EK_INLINE __m256 unit_scales(const float *scales) {
  if constexpr (kUnitBlocks<F> == 1) return _mm256_broadcast_ss(scales);
  int64_t two;
  std::memcpy(&two, scales, sizeof two);
  return _mm256_permutevar8x32_ps(_mm256_castsi256_ps(_mm256_castsi128_si256(_mm_cvtsi64_si128(two))),
                                  _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
}

/* The columns of a row of codes that are multiplied before the next output: as many as leave the values of the rows of
 * activations in an L1 cache. */
template <int kRows>
constexpr int64_t kSlice = kRows <= 2 ? 16384 : 2048;
constexpr int64_t kLongSlice = kSlice<1>;

/* Multiply the blocks begin to end - 1 (at most a slice) of output n with rows of activations, and add the products to the
 * lanes of sums[r]. kAlike: in the order of a single row. */
template <typename F, int kRows, bool kAlike>
EK_INLINE void add_slice(const Matrix &w, int64_t blocks, const QuantizedRow *rows, int64_t n, int64_t begin, int64_t end,
                      const Ahead &ahead, __m256 sums[kRows]) {
  constexpr int64_t kBytes = F::kBlock * F::kBits / 8, kStep = kUnitBlocks<F>;
  constexpr int64_t kMost = (kAlike ? kLongSlice : kSlice<kRows>) / F::kBlock;
  constexpr bool kTwoSums = kAlike || kRows == 1;
  alignas(32) float scales[kRows][kMost]; /* of weights and activations, multiplied */
  const uint8_t *codes = w.codes + n * blocks * kBytes;
  const auto stage = [&](int64_t b, int64_t left, auto lanes) __attribute__((always_inline)) {
    const __m256 weights = some_scales(w, n * blocks + b, left);
    const __m256 zeros = _mm256_mul_ps(weights, some_zeros<F>(w, blocks, n, b, left));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      sums[r] = _mm256_fnmadd_ps(zeros, lanes.load(rows[r].sums + b), sums[r]);
      _mm256_store_ps(scales[r] + (b - begin), _mm256_mul_ps(weights, lanes.load(rows[r].scales + b)));
    }
  };
  int64_t staged = begin;
  for (; staged + 8 <= end; staged += 8) stage(staged, 8, Whole{});
  if (staged < end) stage(staged, end - staged, Masked{lane_mask(end - staged)});
  const int8_t *values[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) values[r] = rows[r].values;
  const auto add_unit = [&](const uint8_t *at, int64_t b, __m256 *to) __attribute__((always_inline)) {
    const UnitCodes<F> unit = load_unit<F>(at);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m256 products = _mm256_cvtepi32_ps(unit_sums(unit, values[r], b * F::kBlock));
      to[r] = _mm256_fmadd_ps(products, unit_scales<F>(scales[r] + (b - begin)), to[r]);
    }
  };
  __m256 odd[kRows]; /* two alternating sums of a single row hide the latency of a multiply-add */
  if constexpr (kTwoSums)
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) odd[r] = _mm256_setzero_ps();
  int64_t b = begin;
  for (; b + 2 * kStep <= end; b += 2 * kStep) {
    const int64_t at = b * kBytes;
    ahead.prefetch(codes, at);
    if (kUnitBytes<F> == 64) ahead.prefetch(codes, at + 64);
    if (kUnitBytes<F> == 128) ahead.prefetch(codes, at + 128);
    add_unit(codes + at, b, sums);
    add_unit(codes + at + kUnitBytes<F>, b + kStep, kTwoSums ? odd : sums);
  }
  if (b + kStep <= end) {
    add_unit(codes + b * kBytes, b, sums);
    b += kStep;
  }
  if constexpr (kStep == 2)
    if (b < end) { /* half a unit: 16 bytes */
      alignas(32) uint8_t last[32] = {};
      std::memcpy(last, codes + b * kBytes, 16);
      add_unit(last, b, sums);
    }
  if constexpr (kTwoSums)
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r] = _mm256_add_ps(sums[r], odd[r]);
}

/* add_slice() with the sums in memory: lanes[r][0] has those of row r. */
template <typename F, int kRows, bool kAlike>
inline void add_rows(const Matrix &w, int64_t blocks, const QuantizedRow *rows, int64_t n, int64_t begin, int64_t end,
                     const Ahead &ahead, float (*lanes)[8][8]) {
  __m256 sums[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r] = _mm256_load_ps(lanes[r][0]);
  add_slice<F, kRows, kAlike>(w, blocks, rows, n, begin, end, ahead, sums);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) _mm256_store_ps(lanes[r][0], sums[r]);
}

/* Add the lanes of 8 registers: lane i of the result is the sum of the lanes of x[i]. */
inline __m256 add_each(const float (*x)[8]) {
  const auto pair = [&](int i) { return _mm256_hadd_ps(_mm256_load_ps(x[i]), _mm256_load_ps(x[i + 1])); };
  const __m256 low = _mm256_hadd_ps(pair(0), pair(2)), high = _mm256_hadd_ps(pair(4), pair(6));
  return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

/* Write the sums of `count` outputs, at most 8, to y. */
inline void write_sums(const float (*lanes)[8], const float *bias, int64_t count, bool add_to, float *y) {
  alignas(32) float sums[8];
  _mm256_store_ps(sums, add_each(lanes));
  for (int i = 0; i < count; ++i) y[i] = sums[i] + (bias ? bias[i] : 0.0f) + (add_to ? y[i] : 0.0f);
}

/* Multiply kRows rows of activations, of which the first m count. The lanes of 8 outputs are added together: adding those of one
 * output takes as long as a short row, and nothing else of that row is left to do meanwhile. */
template <typename F, int kRows, bool kAlike = false>
void outputs(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
             bool add_to) {
  const int64_t slice = (kAlike ? kLongSlice : kSlice<kRows>) / F::kBlock; /* blocks */
  alignas(32) float lanes[kRows][8][8];
  const int64_t blocks = w.blocks();
  const Ahead ahead(blocks * F::kBlock * F::kBits / 8, blocks > slice, kRows);
  for (int64_t n = first; n < last; n += 8) {
    request_factors(w, blocks, n);
    const int64_t count = last - n < 8 ? last - n : 8;
    std::memset(lanes, 0, sizeof lanes);
    for (int64_t begin = 0; begin < blocks; begin += slice) {
      const int64_t end = blocks - begin < slice ? blocks : begin + slice;
      for (int i = 0; i < count; ++i)
        add_rows<F, kRows, kAlike>(w, blocks, rows, n + i, begin, end, ahead, reinterpret_cast<float(*)[8][8]>(lanes[0][i]));
    }
    for (int r = 0; r < m; ++r) write_sums(lanes[r], w.bias ? w.bias + n : nullptr, count, add_to, y + r * stride + n);
  }
}

/* Multiply m rows, kTile at a time, or two. Missing rows are copies of the last one: code for each number of rows would take a
 * tenth of the library. kAlike: with the bits of outputs<F, 1>, as two rows always have them. */
template <typename F, int kTile, bool kAlike>
void tiles(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride, bool add_to) {
  for (int r = 0; r < m; r += kTile) {
    const int count = m - r < kTile ? m - r : kTile;
    QuantizedRow tile[kTile];
    for (int i = 0; i < kTile; ++i) tile[i] = rows[r + (i < count ? i : count - 1)];
    if (count <= 2)
      outputs<F, 2, true>(w, tile, count, first, last, y + r * stride, stride, add_to);
    else
      outputs<F, kTile, kAlike>(w, tile, count, first, last, y + r * stride, stride, add_to);
  }
}

}  // namespace
