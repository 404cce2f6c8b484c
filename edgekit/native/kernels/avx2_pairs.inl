/* Attention of few rows over an int8 cache in integer arithmetic; part of attention.inl, for AVX2.
 *
 * Queries and weights are rounded to 16 bits, 256 times finer than the int8 keys and values, and one instruction multiplies and
 * adds two dimensions of a key, or two positions of values. No sum overflows: 256 * 127 * 32767 < 2^31.
 *
 * A kernel file that defines EK_PAIRS as the name of a file like this one gets from it
 *
 *   kUsesPairs<T, kRows>   whether the following is used for kRows rows of a cache of T
 *   kPairKeys              the keys of a call of score_pairs
 *   round_pairs<T>         numbers to pairs, and the scale that undoes it
 *   score_pairs<kRows>     score_tile, from round_pairs of the queries
 *   value_pairs<kRows>     value_tile, from round_pairs of the weights */

template <typename T, int kRows>
constexpr bool kUsesPairs = sizeof(T) == 1;
constexpr int kPairKeys = kKeyLanes;

/* Two neighbouring 16-bit numbers. */
inline int32_t two_at(const int16_t *at) {
  int32_t two;
  std::memcpy(&two, at, sizeof two);
  return two;
}

typedef __m256i PairVec;
/* 8 bytes of a and of b, interleaved, as int16: a[0], b[0], a[1], b[1], ... */
EK_INLINE PairVec pair_lanes(const int8_t *a, const int8_t *b) {
  const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(a));
  const __m128i y = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(b));
  return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x, y));
}
/* sum + lanes times the two int16 in `two`, adding neighbours */
EK_INLINE PairVec add_pairs(PairVec sum, PairVec lanes, int32_t two) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(lanes, _mm256_set1_epi32(two)));
  __asm__ __volatile__("" : "+x"(sum)); /* keeps gcc 12 from computing all products of a step first, which spills registers */
  return sum;
}
EK_INLINE __m256 pair_sums(PairVec sum) { return _mm256_cvtepi32_ps(sum); }

constexpr float kWhole = 32767.0f;

/* Round n numbers (a multiple of 16) to int16; returns their scale. */
template <typename T>
inline float round_pairs(const float *x, int64_t n, int16_t *to) {
  Vec size = {};
  for (int64_t i = 0; i < n; i += kLanes) size = larger(size, larger(load(x + i), -load(x + i)));
  const float most = largest_lane(size), inverse = most > 1e-30f ? kWhole / most : 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = x[i] * inverse;
    to[i] = static_cast<int16_t>(scaled + (scaled < 0.0f ? -0.5f : 0.5f));
  }
  return most / kWhole;
}

/* score_tile; q is multiplied by q_scales. */
template <int kRows>
EK_ALONE void score_pairs(const int16_t *q, const float *q_scales, const int8_t *key, const float *scales, const float *base,
                        int head_dim, float *score) {
  PairVec sum[kRows][kVecs] = {};
  for (int d = 0; d < head_dim; d += 2) {
    PairVec k[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) k[v] = pair_lanes(key + d * kKeyLanes + v * kLanes, key + (d + 1) * kKeyLanes + v * kLanes);
    prefetch_next(key + d * kKeyLanes, head_dim);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const int32_t two = two_at(q + r * head_dim + d);
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[r][v] = add_pairs(sum[r][v], k[v], two);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v)
      store((Vec)pair_sums(sum[r][v]) * (load(scales + v * kLanes) * q_scales[r]) - base[r], score + r * kKeyBlock + v * kLanes);
}

/* value_tile; weights are multiplied by their scales. An odd count reads one more row of values: the cache has whole blocks,
 * and the weights from `count` on are zero. */
template <int kRows>
EK_ALONE void value_pairs(const int16_t *weight, const float *scales, const int8_t *value, int count, int head_dim,
                        float *sums) {
  for (int at = 0; at < head_dim; at += kKeyLanes) {
    PairVec sum[kRows][kVecs] = {};
    for (int t = 0; t < count; t += 2) {
      const int8_t *first = value + t * head_dim + at;
      PairVec x[kVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) x[v] = pair_lanes(first + v * kLanes, first + head_dim + v * kLanes);
      prefetch_next(first, head_dim);
      prefetch_next(first + head_dim, head_dim);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const int32_t two = two_at(weight + r * kKeyBlock + t);
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) sum[r][v] = add_pairs(sum[r][v], x[v], two);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) {
        float *to = sums + r * head_dim + at + v * kLanes;
        store(load(to) + (Vec)pair_sums(sum[r][v]) * scales[r], to);
      }
  }
}
