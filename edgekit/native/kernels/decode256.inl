/* The decode kernel multiply_one for registers of 32 bytes, which AVX-512 tables use too: the products of a block fit into
 * one such register, and a Zen 4 splits larger ones.
 *
 * A unit is what one scale, or two, apply to: a block, or two blocks of 32 columns of 4-bit codes. A kernel file provides
 *
 *   unit_sums<F>(codes, values, column)   the products of a unit that starts at this column with a row of activations, added
 *                                         to eight int32
 *   kOffset8                              what it subtracts from 8-bit codes */
namespace {

template <typename F>
constexpr int kUnit = F::kBits == 4 && F::kBlock == 32 ? 64 : F::kBlock; /* columns */
template <typename F>
constexpr int kUnitBytes = kUnit<F> * F::kBits / 8;
template <typename F>
constexpr int kUnitBlocks = kUnit<F> / F::kBlock;

/* Where to prefetch, into L2. Hardware prefetchers follow a long row of codes, but stop at the end of a page: one line in
 * eight, a page ahead, starts them there, and more requests would only occupy the miss buffers. Short rows interrupt them too
 * often, so each line is requested early. On Zen 4 one thread then reads rows of 4480 bytes at 97 % of the speed of a plain
 * reading loop and rows of 768 bytes at 92 %; with one request for each line one page ahead, into L1, it is 66 % and 70 %.
 * A prefetch past the end of the file does nothing. */
struct Ahead {
  int64_t distance, every;
  explicit Ahead(int64_t row_bytes) : distance(row_bytes < 2048 ? 16384 : 4096), every(row_bytes < 2048 ? 64 : 512) {}
  EK_INLINE void prefetch(const uint8_t *codes, int64_t at) const {
    if ((at & (every - 1)) == 0) _mm_prefetch(reinterpret_cast<const char *>(codes + at + distance), _MM_HINT_T1);
  }
};

/* The first `left` of eight floats; the others are zero and are not read. */
inline __m256 some_floats(const float *from, int64_t left) {
  if (left >= 8) return _mm256_loadu_ps(from);
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_maskload_ps(from, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(left)), lanes));
}

/* The scales of `left` blocks from block `at` on, at most 8; the other lanes are zero. */
template <bool kHalf>
inline __m256 some_scales(const void *scales, int64_t at, int64_t left) {
  if constexpr (!kHalf) return some_floats(static_cast<const float *>(scales) + at, left);
  uint16_t halves[8] = {};
  const uint16_t *from = static_cast<const uint16_t *>(scales) + at;
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

/* Multiply row n of the weights with the activations: the sum of the eight lanes is the product. Two alternating sums hide the
 * latency of a multiply-add. */
template <typename F>
inline __m256 row_product(const Matrix &w, int64_t blocks, const QuantizedRow &row, int64_t n, const Ahead &ahead) {
  constexpr int kStage = 512; /* blocks whose scales are multiplied in advance */
  constexpr int64_t kBytes = F::kBlock * F::kBits / 8;
  alignas(32) float scales[kStage];
  const uint8_t *codes = w.codes + n * blocks * kBytes;
  __m256 even = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
  for (int64_t begin = 0; begin < blocks; begin += kStage) {
    const int64_t end = blocks - begin < kStage ? blocks : begin + kStage;
    for (int64_t b = begin; b < end; b += 8) {
      const __m256 weights = some_scales<F::kHalf>(w.scales, n * blocks + b, blocks - b);
      const __m256 zeros = _mm256_mul_ps(weights, some_zeros<F>(w, blocks, n, b, blocks - b < 8 ? blocks - b : 8));
      odd = _mm256_fnmadd_ps(zeros, some_floats(row.sums + b, blocks - b), odd);
      _mm256_store_ps(scales + (b - begin), _mm256_mul_ps(weights, some_floats(row.scales + b, blocks - b)));
    }
    const auto add_unit = [&](const uint8_t *unit, int64_t b, __m256 sum) {
      const __m256i sums = unit_sums<F>(unit, row.values, b * F::kBlock);
      return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), unit_scales<F>(scales + (b - begin)), sum);
    };
    constexpr int64_t kStep = kUnitBlocks<F>;
    int64_t b = begin;
    for (; b + 2 * kStep <= end; b += 2 * kStep) {
      const int64_t at = b * kBytes;
      ahead.prefetch(codes, at);
      if (kUnitBytes<F> == 64) ahead.prefetch(codes, at + 64);
      if (kUnitBytes<F> == 128) ahead.prefetch(codes, at + 128);
      even = add_unit(codes + at, b, even);
      odd = add_unit(codes + at + kUnitBytes<F>, b + kStep, odd);
    }
    if (b + kStep <= end) {
      even = add_unit(codes + b * kBytes, b, even);
      b += kStep;
    }
    if constexpr (kStep == 2)
      if (b < end) { /* half a unit: 16 bytes */
        alignas(32) uint8_t last[32] = {};
        std::memcpy(last, codes + b * kBytes, 16);
        odd = add_unit(last, b, odd);
      }
  }
  return _mm256_add_ps(even, odd);
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

/* The lanes of 8 outputs are added together: adding those of one output takes as long as a short row, and nothing else of that
 * row is left to do meanwhile. */
template <typename F>
void one(const Matrix &w, const QuantizedRow &row, int64_t first, int64_t last, float *y, bool add_to) {
  alignas(32) float lanes[8][8] = {};
  const int64_t blocks = w.blocks();
  const Ahead ahead(blocks * F::kBlock * F::kBits / 8);
  for (int64_t n = first; n < last; n += 8) {
    const int64_t count = last - n < 8 ? last - n : 8;
    for (int i = 0; i < count; ++i) _mm256_store_ps(lanes[i], row_product<F>(w, blocks, row, n + i, ahead));
    write_sums(lanes, w.bias ? w.bias + n : nullptr, count, add_to, y + n);
  }
}

}  // namespace
