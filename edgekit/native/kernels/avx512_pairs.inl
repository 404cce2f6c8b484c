/* Attention of few rows by products of pairs of 16-bit numbers; part of attention.inl, for AVX-512. avx2_pairs.inl explains the
 * idea. This file processes 32 keys, or 32 dimensions of values, at a time, so that 6 rows have 12 independent sums.
 *
 * With AVX512_BF16 it also serves float16 caches, by products of bfloat16. Keys and values are rounded to bfloat16 by integer
 * instructions: shifting a float16 right by 3 bits, except for its sign, gives the bfloat16 of its 2^-112-fold. The other factor
 * makes up for that. Numbers below 2^-14 count as zero, as they are denormal then, and an overflow to infinity as 2^16. */

constexpr int kPairKeys = 2 * kKeyLanes;

/* How to multiply pairs of numbers of a cache of T. */
template <typename T>
struct Pairs;

template <>
struct Pairs<int8_t> {
  using Sum = __m512i;
  static EK_INLINE Sum zero() { return _mm512_setzero_si512(); }
  /* 32 numbers of the cache as int16; zero where `mask` has no bit. */
  static EK_INLINE __m512i load(const int8_t *at, __mmask32 mask) { return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, at)); }
  /* sum + x times the two numbers in each dword of `two`, adding neighbours. */
  static EK_INLINE Sum add(Sum sum, __m512i x, __m512i two) { return _mm512_dpwssd_epi32(sum, x, two); }
  static EK_INLINE __m512 as_float(Sum sum) { return _mm512_cvtepi32_ps(sum); }
};

constexpr float kWhole = 32767.0f;

/* Round n numbers (a multiple of 16) to int16; returns their scale. */
template <typename T>
inline float round_pairs(const float *x, int64_t n, int16_t *to) {
  __m512 size = _mm512_setzero_ps();
  for (int64_t i = 0; i < n; i += 16) size = _mm512_max_ps(size, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
  const float most = _mm512_reduce_max_ps(size);
  const __m512 inverse = _mm512_set1_ps(most > 1e-30f ? kWhole / most : 0.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), inverse));
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i), _mm512_cvtepi32_epi16(whole));
  }
  return most / kWhole;
}

#ifdef __AVX512BF16__
/* 4 rows of a float16 cache take as long in float, on Zen 4. */
template <typename T, int kRows>
constexpr bool kUsesPairs = sizeof(T) == 1 || (sizeof(T) == 2 && kRows > 4);

template <>
struct Pairs<uint16_t> {
  using Sum = __m512;
  static EK_INLINE Sum zero() { return _mm512_setzero_ps(); }
  /* The numbers as bfloat16, times 2^-112. */
  static EK_INLINE __m512i load(const uint16_t *at, __mmask32 mask) {
    const __m512i rounded = _mm512_add_epi16(_mm512_maskz_loadu_epi16(mask, at), _mm512_set1_epi16(4)); /* to the nearest */
    return _mm512_and_si512(_mm512_srai_epi16(rounded, 3), _mm512_set1_epi16(static_cast<int16_t>(0x8fff)));
  }
  static EK_INLINE Sum add(Sum sum, __m512i x, __m512i two) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(two));
  }
  static EK_INLINE __m512 as_float(Sum sum) { return sum; }
};

/* Round n numbers (a multiple of 16) below 2^27 to bfloat16, times 2^100; returns the scale for products with Pairs<uint16_t>::load. */
template <>
inline float round_pairs<uint16_t>(const float *x, int64_t n, int16_t *to) {
  for (int64_t i = 0; i < n; i += 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(0x1p100f)));
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i), reinterpret_cast<__m256i>(rounded));
  }
  return 0x1p12f;
}
#else
template <typename T, int kRows>
constexpr bool kUsesPairs = sizeof(T) == 1;
#endif

/* Prefetch what is two blocks of keys or values after `at`, where 32 pairs are used: one block is done before its successor has
 * arrived. Memory is fastest when lines are requested in the order of their addresses, not in the order in which they are
 * used. */
template <typename T>
EK_INLINE void prefetch_pairs(const T *at, int head_dim) {
  prefetch_next(at, 2 * head_dim);
  if (sizeof(T) == 2) prefetch_next(at + 32, 2 * head_dim);
}

EK_INLINE __m512i two_at(const int16_t *at) {
  int32_t two;
  std::memcpy(&two, at, sizeof two);
  return _mm512_set1_epi32(two);
}

/* 16 sums of 32, in order. sum[0] has those of numbers 0 to 3 of every 8, sum[1] those of 4 to 7. */
template <int kHalf>
EK_INLINE __m512 in_order(__m512 sum0, __m512 sum1) {
  const __m512 lanes = _mm512_shuffle_f32x4(sum0, sum1, kHalf ? 0xee : 0x44);
  return _mm512_shuffle_f32x4(lanes, lanes, 0xd8);
}

/* score_tile for 32 keys. */
template <int kRows, typename T>
EK_ALONE void score_pairs(const int16_t *q, const float *q_scales, const T *key, const float *scales, const float *base,
                          int head_dim, float *score) {
  typename Pairs<T>::Sum sum[kRows][2];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = Pairs<T>::zero();
  for (int d = 0; d < head_dim; d += 2) {
    /* Two dimensions of the first 16 keys, and of the other 16. */
    const __m512i a = Pairs<T>::load(key + d * kKeyLanes, ~__mmask32{0}), b = Pairs<T>::load(key + (head_dim + d) * kKeyLanes, ~__mmask32{0});
    prefetch_pairs(key + d * 2 * kKeyLanes, head_dim);
    const __m512i even = _mm512_shuffle_i64x2(a, b, 0x44), odd = _mm512_shuffle_i64x2(a, b, 0xee);
    const __m512i low = _mm512_unpacklo_epi16(even, odd), high = _mm512_unpackhi_epi16(even, odd);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512i two = two_at(q + r * head_dim + d);
      sum[r][0] = Pairs<T>::add(sum[r][0], low, two);
      sum[r][1] = Pairs<T>::add(sum[r][1], high, two);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const __m512 a = Pairs<T>::as_float(sum[r][0]), b = Pairs<T>::as_float(sum[r][1]);
    const __m512 scale = _mm512_set1_ps(q_scales[r]), less = _mm512_set1_ps(base[r]);
    __m512 scales0 = scale, scales1 = scale;
    if constexpr (sizeof(T) == 1) {
      scales0 = _mm512_mul_ps(scale, _mm512_loadu_ps(scales));
      scales1 = _mm512_mul_ps(scale, _mm512_loadu_ps(scales + 16));
    }
    _mm512_storeu_ps(score + r * kKeyBlock, _mm512_fmsub_ps(in_order<0>(a, b), scales0, less));
    _mm512_storeu_ps(score + r * kKeyBlock + 16, _mm512_fmsub_ps(in_order<1>(a, b), scales1, less));
  }
}

/* value_tile. An odd count reads one more row of values: the cache has whole blocks, and the weights from `count` on are
 * zero. */
template <int kRows, typename T>
EK_ALONE void value_pairs(const int16_t *weight, const float *scales, const T *value, int count, int head_dim, float *sums) {
  const T *next = value;
  for (int at = 0; at < head_dim; at += 32) {
    const bool whole = head_dim - at >= 32; /* else 16 dimensions are left */
    const __mmask32 mask = whole ? ~__mmask32{0} : __mmask32{0xffff};
    typename Pairs<T>::Sum sum[kRows][2];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = Pairs<T>::zero();
    for (int t = 0; t < count; t += 2, next += 64) {
      const __m512i even = Pairs<T>::load(value + t * head_dim + at, mask), odd = Pairs<T>::load(value + (t + 1) * head_dim + at, mask);
      prefetch_pairs(next, head_dim);
      const __m512i low = _mm512_unpacklo_epi16(even, odd), high = _mm512_unpackhi_epi16(even, odd);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const __m512i two = two_at(weight + r * kKeyBlock + t);
        sum[r][0] = Pairs<T>::add(sum[r][0], low, two);
        sum[r][1] = Pairs<T>::add(sum[r][1], high, two);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      float *to = sums + r * head_dim + at;
      const __m512 a = Pairs<T>::as_float(sum[r][0]), b = Pairs<T>::as_float(sum[r][1]), scale = _mm512_set1_ps(scales[r]);
      _mm512_storeu_ps(to, _mm512_fmadd_ps(in_order<0>(a, b), scale, _mm512_loadu_ps(to)));
      if (whole) _mm512_storeu_ps(to + 16, _mm512_fmadd_ps(in_order<1>(a, b), scale, _mm512_loadu_ps(to + 16)));
    }
  }
}
