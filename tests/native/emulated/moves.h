/* The emulated instructions that compare, convert and move lanes. Included by immintrin.h. */
#ifndef EDGEKIT_TESTS_EMULATED_MOVES_H
#define EDGEKIT_TESTS_EMULATED_MOVES_H

namespace {

/* ---- Comparisons ---- */

/* A predicate is the set of outcomes for which it is true: 1 less, 2 equal, 4 greater, 8 unordered (NaN). Bit 4 of the control
 * only selects which of them raise an exception. */
EMU __mmask16 _mm512_cmp_ps_mask(__m512 x, __m512 y, int predicate) {
  static constexpr int kHolds[16] = {2, 1, 3, 8, 13, 14, 12, 7, 10, 9, 11, 0, 5, 6, 4, 15};
  const auto a = emu::lanes<float>(x), b = emu::lanes<float>(y);
  return static_cast<__mmask16>(emu::where<16>([&](int i) {
    return kHolds[predicate & 15] & (a[i] < b[i] ? 1 : a[i] == b[i] ? 2 : a[i] > b[i] ? 4 : 8);
  }));
}
#define EMU_COMPARE(name, suffix, T, count, compare)                                                        \
  EMU __mmask##count _mm512_##name##_##suffix##_mask(__m512i x, __m512i y) {                                \
    const auto a = emu::lanes<T>(x), b = emu::lanes<T>(y);                                                  \
    return static_cast<__mmask##count>(emu::where<count>([&](int i) { return a[i] compare b[i]; }));        \
  }
#define EMU_COMPARES(suffix, T, count)          \
  EMU_COMPARE(cmpeq, suffix, T, count, ==)      \
  EMU_COMPARE(cmpneq, suffix, T, count, !=)     \
  EMU_COMPARE(cmplt, suffix, T, count, <)       \
  EMU_COMPARE(cmple, suffix, T, count, <=)      \
  EMU_COMPARE(cmpgt, suffix, T, count, >)       \
  EMU_COMPARE(cmpge, suffix, T, count, >=)
EMU_COMPARES(epi8, int8_t, 64)
EMU_COMPARES(epi16, int16_t, 32)
EMU_COMPARES(epi32, int32_t, 16)

/* ---- Conversions ---- */

#define EMU_CONVERT(name, To, ToLane, From, FromLane, e) \
  EMU To name(From x) { const auto a = emu::lanes<FromLane>(x); return emu::fill<To, ToLane>([&](int i) { return e; }); }
EMU_CONVERT(_mm512_cvtepi32_ps, __m512, float, __m512i, int32_t, static_cast<float>(a[i]))
EMU_CONVERT(_mm512_cvtps_epi32, __m512i, int32_t, __m512, float, _mm_cvtss_si32(_mm_set_ss(a[i])))
EMU_CONVERT(_mm512_cvttps_epi32, __m512i, int32_t, __m512, float, _mm_cvttss_si32(_mm_set_ss(a[i])))
EMU_CONVERT(_mm512_cvtepu8_epi32, __m512i, int32_t, __m128i, uint8_t, a[i])
EMU_CONVERT(_mm512_cvtepi8_epi32, __m512i, int32_t, __m128i, int8_t, a[i])
EMU_CONVERT(_mm512_cvtepu8_epi16, __m512i, int16_t, __m256i, uint8_t, a[i])
EMU_CONVERT(_mm512_cvtepi8_epi16, __m512i, int16_t, __m256i, int8_t, a[i])
EMU_CONVERT(_mm512_cvtepu16_epi32, __m512i, int32_t, __m256i, uint16_t, a[i])
EMU_CONVERT(_mm512_cvtepi16_epi32, __m512i, int32_t, __m256i, int16_t, a[i])
EMU_CONVERT(_mm512_cvtepi32_epi8, __m128i, uint8_t, __m512i, uint32_t, a[i])
EMU_CONVERT(_mm512_cvtepi32_epi16, __m256i, uint16_t, __m512i, uint32_t, a[i])
EMU_CONVERT(_mm512_cvtepi16_epi8, __m256i, uint8_t, __m512i, uint16_t, a[i])
EMU_CONVERT(_mm512_cvtsepi32_epi8, __m128i, int8_t, __m512i, int32_t, a[i] > 127 ? 127 : a[i] < -128 ? -128 : a[i])
EMU_CONVERT(_mm512_cvtsepi32_epi16, __m256i, int16_t, __m512i, int32_t, a[i] > 32767 ? 32767 : a[i] < -32768 ? -32768 : a[i])
EMU_CONVERT(_mm512_cvtph_ps, __m512, float, __m256i, uint16_t, _cvtsh_ss(a[i]))
EMU __m256i _mm512_cvtps_ph(__m512 x, int rounding) {
  if (rounding & 7) emu::stop("_mm512_cvtps_ph: a rounding other than to nearest even");
  const auto a = emu::lanes<float>(x);
  return emu::fill<__m256i, uint16_t>([&](int i) { return _cvtss_sh(a[i], _MM_FROUND_TO_NEAREST_INT); });
}
EMU_CONVERT(_mm512_cvtneps_pbh, __m256bh, uint16_t, __m512, float, emu::to_bf16(a[i]))
EMU_CONVERT(_mm256_cvtneps_pbh, __m128bh, uint16_t, __m256, float, emu::to_bf16(a[i]))
EMU __m512bh _mm512_cvtne2ps_pbh(__m512 high, __m512 low) {
  const auto a = emu::lanes<float>(low), b = emu::lanes<float>(high);
  return emu::fill<__m512bh, uint16_t>([&](int i) { return emu::to_bf16(i < 16 ? a[i] : b[i - 16]); });
}
EMU_CONVERT(_mm512_cvtpbh_ps, __m512, float, __m256bh, uint16_t, emu::from_bf16(a[i]))

/* ---- Parts of registers ---- */

EMU __m512i _mm512_castps_si512(__m512 x) { return emu::cast<__m512i>(x); }
EMU __m512 _mm512_castsi512_ps(__m512i x) { return emu::cast<__m512>(x); }
EMU __m128 _mm512_castps512_ps128(__m512 x) { return emu::cast<__m128>(x); }
EMU __m256 _mm512_castps512_ps256(__m512 x) { return emu::cast<__m256>(x); }
EMU __m128i _mm512_castsi512_si128(__m512i x) { return emu::cast<__m128i>(x); }
EMU __m256i _mm512_castsi512_si256(__m512i x) { return emu::cast<__m256i>(x); }
EMU __m512 _mm512_castps128_ps512(__m128 x) { return emu::cast<__m512>(x); }
EMU __m512 _mm512_castps256_ps512(__m256 x) { return emu::cast<__m512>(x); }
EMU __m512i _mm512_castsi128_si512(__m128i x) { return emu::cast<__m512i>(x); }
EMU __m512i _mm512_castsi256_si512(__m256i x) { return emu::cast<__m512i>(x); }
EMU __m512 _mm512_zextps128_ps512(__m128 x) { return emu::cast<__m512>(x, 0); }
EMU __m512 _mm512_zextps256_ps512(__m256 x) { return emu::cast<__m512>(x, 0); }
EMU __m512i _mm512_zextsi128_si512(__m128i x) { return emu::cast<__m512i>(x, 0); }
EMU __m512i _mm512_zextsi256_si512(__m256i x) { return emu::cast<__m512i>(x, 0); }

EMU __m128 _mm512_extractf32x4_ps(__m512 x, int part) { return emu::extract<__m128>(x, part & 3); }
EMU __m256 _mm512_extractf32x8_ps(__m512 x, int part) { return emu::extract<__m256>(x, part & 1); }
EMU __m128i _mm512_extracti32x4_epi32(__m512i x, int part) { return emu::extract<__m128i>(x, part & 3); }
EMU __m256i _mm512_extracti32x8_epi32(__m512i x, int part) { return emu::extract<__m256i>(x, part & 1); }
EMU __m256i _mm512_extracti64x4_epi64(__m512i x, int part) { return emu::extract<__m256i>(x, part & 1); }
EMU __m512 _mm512_insertf32x4(__m512 x, __m128 y, int part) { return emu::insert(x, y, part & 3); }
EMU __m512 _mm512_insertf32x8(__m512 x, __m256 y, int part) { return emu::insert(x, y, part & 1); }
EMU __m512i _mm512_inserti32x4(__m512i x, __m128i y, int part) { return emu::insert(x, y, part & 3); }
EMU __m512i _mm512_inserti32x8(__m512i x, __m256i y, int part) { return emu::insert(x, y, part & 1); }
EMU __m512i _mm512_inserti64x4(__m512i x, __m256i y, int part) { return emu::insert(x, y, part & 1); }
EMU __m512 _mm512_broadcast_f32x4(__m128 x) { return emu::repeat<__m512>(x); }
EMU __m512 _mm512_broadcast_f32x8(__m256 x) { return emu::repeat<__m512>(x); }
EMU __m512i _mm512_broadcast_i32x4(__m128i x) { return emu::repeat<__m512i>(x); }
EMU __m512i _mm512_broadcast_i32x8(__m256i x) { return emu::repeat<__m512i>(x); }
EMU __m512i _mm512_broadcast_i64x4(__m256i x) { return emu::repeat<__m512i>(x); }
EMU __m512 _mm512_broadcastss_ps(__m128 x) { return emu::repeat<__m512>(emu::lanes<float>(x)[0]); }
EMU __m512i _mm512_broadcastb_epi8(__m128i x) { return emu::repeat<__m512i>(emu::lanes<int8_t>(x)[0]); }
EMU __m512i _mm512_broadcastw_epi16(__m128i x) { return emu::repeat<__m512i>(emu::lanes<int16_t>(x)[0]); }
EMU __m512i _mm512_broadcastd_epi32(__m128i x) { return emu::repeat<__m512i>(emu::lanes<int32_t>(x)[0]); }

/* ---- Lanes by index; bits of an index beyond what it needs are ignored ---- */

template <typename Index, typename T, typename V>
EMU V emu_permute(const __m512i &index, const V &x) {
  const auto at = emu::lanes<Index>(index);
  const auto a = emu::lanes<T>(x);
  constexpr int kCount = static_cast<int>(64 / sizeof(T));
  return emu::fill<V, T>([&](int i) { return a[static_cast<int>(at[i] % kCount)]; });
}
template <typename Index, typename T, typename V>
EMU V emu_permute2(const V &x, const __m512i &index, const V &y) {
  const auto at = emu::lanes<Index>(index);
  const auto a = emu::lanes<T>(x), b = emu::lanes<T>(y);
  constexpr int kCount = static_cast<int>(64 / sizeof(T));
  return emu::fill<V, T>([&](int i) {
    const int j = static_cast<int>(at[i] % (2 * kCount));
    return j < kCount ? a[j] : b[j - kCount];
  });
}
EMU __m512 _mm512_permutexvar_ps(__m512i index, __m512 x) { return emu_permute<uint32_t, float>(index, x); }
EMU __m512i _mm512_permutexvar_epi8(__m512i index, __m512i x) { return emu_permute<uint8_t, uint8_t>(index, x); }
EMU __m512i _mm512_permutexvar_epi16(__m512i index, __m512i x) { return emu_permute<uint16_t, uint16_t>(index, x); }
EMU __m512i _mm512_permutexvar_epi32(__m512i index, __m512i x) { return emu_permute<uint32_t, uint32_t>(index, x); }
EMU __m512i _mm512_permutexvar_epi64(__m512i index, __m512i x) { return emu_permute<uint64_t, uint64_t>(index, x); }
EMU __m512 _mm512_permutex2var_ps(__m512 x, __m512i index, __m512 y) { return emu_permute2<uint32_t, float>(x, index, y); }
EMU __m512i _mm512_permutex2var_epi8(__m512i x, __m512i index, __m512i y) { return emu_permute2<uint8_t, uint8_t>(x, index, y); }
EMU __m512i _mm512_permutex2var_epi16(__m512i x, __m512i index, __m512i y) { return emu_permute2<uint16_t, uint16_t>(x, index, y); }
EMU __m512i _mm512_permutex2var_epi32(__m512i x, __m512i index, __m512i y) { return emu_permute2<uint32_t, uint32_t>(x, index, y); }
EMU __m512i _mm512_shuffle_epi8(__m512i x, __m512i index) { /* within 16 bytes; zero where the index is negative */
  const auto a = emu::lanes<uint8_t>(x), at = emu::lanes<uint8_t>(index);
  return emu::fill<__m512i, uint8_t>([&](int i) { return at[i] & 0x80 ? 0 : a[i / 16 * 16 + at[i] % 16]; });
}
EMU __m512i _mm512_shuffle_epi32(__m512i x, int order) {
  const auto a = emu::lanes<uint32_t>(x);
  return emu::fill<__m512i, uint32_t>([&](int i) { return a[i / 4 * 4 + (order >> 2 * (i % 4) & 3)]; });
}
EMU __m512i _mm512_permutex_epi64(__m512i x, int order) {
  const auto a = emu::lanes<uint64_t>(x);
  return emu::fill<__m512i, uint64_t>([&](int i) { return a[i / 4 * 4 + (order >> 2 * (i % 4) & 3)]; });
}

/* Interleave, in each 16 bytes, the low or the high lanes of two registers. */
#define EMU_UNPACK(suffix, V, T)                                                                            \
  EMU V _mm512_unpacklo_##suffix(V x, V y) { return emu_unpack<T>(x, y, 0); }                               \
  EMU V _mm512_unpackhi_##suffix(V x, V y) { return emu_unpack<T>(x, y, static_cast<int>(8 / sizeof(T))); }
template <typename T, typename V>
EMU V emu_unpack(const V &x, const V &y, int from) {
  const auto a = emu::lanes<T>(x), b = emu::lanes<T>(y);
  constexpr int kLane = static_cast<int>(16 / sizeof(T));
  return emu::fill<V, T>([&](int i) {
    const int j = i / kLane * kLane + from + i % kLane / 2;
    return i % 2 ? b[j] : a[j];
  });
}
EMU_UNPACK(ps, __m512, float)
EMU_UNPACK(epi8, __m512i, uint8_t)
EMU_UNPACK(epi16, __m512i, uint16_t)
EMU_UNPACK(epi32, __m512i, uint32_t)
EMU_UNPACK(epi64, __m512i, uint64_t)

/* Two of the first register's 16-byte parts, then two of the second's. */
template <typename V>
EMU V emu_shuffle_parts(const V &x, const V &y, int order) {
  V to{};
  for (int i = 0; i < 4; ++i) to = emu::insert(to, emu::extract<__m128i>(i < 2 ? x : y, order >> 2 * i & 3), i);
  return to;
}
EMU __m512i _mm512_shuffle_i32x4(__m512i x, __m512i y, int order) { return emu_shuffle_parts(x, y, order); }
EMU __m512i _mm512_shuffle_i64x2(__m512i x, __m512i y, int order) { return emu_shuffle_parts(x, y, order); }
EMU __m512 _mm512_shuffle_f32x4(__m512 x, __m512 y, int order) { return emu_shuffle_parts(x, y, order); }

}  // namespace

#endif
