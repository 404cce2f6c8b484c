/* AVX-512 F, BW, VL, DQ, VNNI, VBMI, BF16 and AMX in plain C++, to test the kernels that need them on a machine with AVX2.
 *
 * -I makes the compiler find this file before its own <immintrin.h>, which this file includes: types and all intrinsics of
 * AVX2, FMA and F16C are the real ones. names.h renames the intrinsics defined here, so they do not clash with the real
 * ones; an intrinsic that is missing here is a compile error. Semantics: Intel Intrinsics Guide. Undefined results are NaN;
 * where the processor would fault, the program aborts. */
#ifndef EDGEKIT_TESTS_EMULATED_IMMINTRIN_H
#define EDGEKIT_TESTS_EMULATED_IMMINTRIN_H

#include_next <immintrin.h>

#include <cmath>

#include "lanes.h"
#include "names.h"
#include "tiles.h"

/* `__asm__ __volatile__("" : "+v"(x))` prevents folding, but needs AVX-512 registers. Empty assembly is removed; any other is a
 * compile error. */
constexpr bool emu_no_instructions(const char *text) { return text[0] == '"' && text[1] == '"'; }
#define __volatile__(...) ("" : : "i"(sizeof(char[emu_no_instructions(#__VA_ARGS__) ? 1 : -1])))

namespace {

#define EMU inline
/* Compute each lane from the same lane of one, two or three registers: a, b and c. */
#define EMU_MAP1(name, V, T, e) EMU V name(V x) { const auto a = emu::lanes<T>(x); return emu::fill<V, T>([&](int i) { return e; }); }
#define EMU_MAP2(name, V, T, e) \
  EMU V name(V x, V y) { const auto a = emu::lanes<T>(x), b = emu::lanes<T>(y); return emu::fill<V, T>([&](int i) { return e; }); }
#define EMU_MAP3(name, V, T, e)                                                           \
  EMU V name(V x, V y, V z) {                                                             \
    const auto a = emu::lanes<T>(x), b = emu::lanes<T>(y), c = emu::lanes<T>(z);          \
    return emu::fill<V, T>([&](int i) { return e; });                                     \
  }
/* The same with its mask and maskz forms. */
#define EMU_MASKED2(op, suffix, V, T, e)                                                                                         \
  EMU_MAP2(_mm512_##op##_##suffix, V, T, e)                                                                                      \
  EMU V _mm512_mask_##op##_##suffix(V old, uint64_t m, V x, V y) { return emu::select<T>(m, _mm512_##op##_##suffix(x, y), old); } \
  EMU V _mm512_maskz_##op##_##suffix(uint64_t m, V x, V y) { return emu::select<T>(m, _mm512_##op##_##suffix(x, y), V{}); }

/* ---- Constants ---- */

template <typename V, typename T, typename... Values>
EMU V emu_set(Values... values) {
  static_assert(sizeof...(values) * sizeof(T) == sizeof(V), "a value for each lane");
  const T from[] = {static_cast<T>(values)...};
  return emu::load_all<V>(from);
}
template <typename V, typename T, typename... Values>
EMU V emu_set_reversed(Values... values) {
  const auto v = emu::lanes<T>(emu_set<V, T>(values...));
  return emu::fill<V, T>([&](int i) { return v[static_cast<int>(sizeof...(values)) - 1 - i]; });
}
EMU __m512 _mm512_setzero_ps() { return __m512{}; }
EMU __m512i _mm512_setzero_si512() { return __m512i{}; }
EMU __m512 _mm512_set1_ps(float x) { return emu::fill<__m512, float>([&](int) { return x; }); }
EMU __m512i _mm512_set1_epi8(char x) { return emu::fill<__m512i, int8_t>([&](int) { return x; }); }
EMU __m512i _mm512_set1_epi16(short x) { return emu::fill<__m512i, int16_t>([&](int) { return x; }); }
EMU __m512i _mm512_set1_epi32(int x) { return emu::fill<__m512i, int32_t>([&](int) { return x; }); }
EMU __m512i _mm512_set1_epi64(long long x) { return emu::fill<__m512i, int64_t>([&](int) { return x; }); }

/* ---- Memory: whole registers, and lanes under a mask ---- */

EMU __m512 _mm512_loadu_ps(const void *p) { return emu::load_all<__m512>(p); }
EMU __m512 _mm512_load_ps(const void *p) { return emu::load_all<__m512>(emu::aligned64(p)); }
EMU __m512i _mm512_loadu_si512(const void *p) { return emu::load_all<__m512i>(p); }
EMU __m512i _mm512_load_si512(const void *p) { return emu::load_all<__m512i>(emu::aligned64(p)); }
EMU __m512i _mm512_loadu_epi8(const void *p) { return emu::load_all<__m512i>(p); }
EMU __m512i _mm512_loadu_epi16(const void *p) { return emu::load_all<__m512i>(p); }
EMU __m512i _mm512_loadu_epi32(const void *p) { return emu::load_all<__m512i>(p); }
EMU void _mm512_storeu_ps(void *p, __m512 v) { std::memcpy(p, &v, 64); }
EMU void _mm512_store_ps(void *p, __m512 v) { emu::aligned64(p), std::memcpy(p, &v, 64); }
EMU void _mm512_storeu_si512(void *p, __m512i v) { std::memcpy(p, &v, 64); }
EMU void _mm512_store_si512(void *p, __m512i v) { emu::aligned64(p), std::memcpy(p, &v, 64); }
EMU void _mm512_storeu_epi8(void *p, __m512i v) { std::memcpy(p, &v, 64); }
EMU void _mm512_storeu_epi16(void *p, __m512i v) { std::memcpy(p, &v, 64); }
EMU void _mm512_storeu_epi32(void *p, __m512i v) { std::memcpy(p, &v, 64); }
EMU void _mm512_stream_si512(void *p, __m512i v) { emu::aligned64(p), std::memcpy(p, &v, 64); }

#define EMU_LANES(width, suffix, V, T)                                                                          \
  EMU V width##_maskz_loadu_##suffix(uint64_t m, const void *p) { return emu::load<V, T>(m, p, V{}); }          \
  EMU V width##_mask_loadu_##suffix(V old, uint64_t m, const void *p) { return emu::load<V, T>(m, p, old); }    \
  EMU void width##_mask_storeu_##suffix(void *p, uint64_t m, V v) { emu::store<T>(m, p, v); }
#define EMU_LANES_OF(width, F, I)      \
  EMU_LANES(width, ps, F, float)       \
  EMU_LANES(width, epi8, I, int8_t)    \
  EMU_LANES(width, epi16, I, int16_t)  \
  EMU_LANES(width, epi32, I, int32_t)
EMU_LANES_OF(_mm, __m128, __m128i)
EMU_LANES_OF(_mm256, __m256, __m256i)
EMU_LANES_OF(_mm512, __m512, __m512i)

#define EMU_SELECT(suffix, V, T)                                                                        \
  EMU V _mm512_mask_blend_##suffix(uint64_t m, V x, V y) { return emu::select<T>(m, y, x); }            \
  EMU V _mm512_mask_mov_##suffix(V old, uint64_t m, V x) { return emu::select<T>(m, x, old); }          \
  EMU V _mm512_maskz_mov_##suffix(uint64_t m, V x) { return emu::select<T>(m, x, V{}); }
EMU_SELECT(ps, __m512, float)
EMU_SELECT(epi8, __m512i, int8_t)
EMU_SELECT(epi16, __m512i, int16_t)
EMU_SELECT(epi32, __m512i, int32_t)

/* ---- Floats ---- */

EMU_MASKED2(add, ps, __m512, float, a[i] + b[i])
EMU_MASKED2(sub, ps, __m512, float, a[i] - b[i])
EMU_MASKED2(mul, ps, __m512, float, a[i] * b[i])
EMU_MAP2(_mm512_div_ps, __m512, float, a[i] / b[i])
EMU_MASKED2(max, ps, __m512, float, a[i] > b[i] ? a[i] : b[i]) /* the second where either is not a number */
EMU_MASKED2(min, ps, __m512, float, a[i] < b[i] ? a[i] : b[i])
EMU_MAP2(_mm512_scalef_ps, __m512, float, std::ldexp(a[i], static_cast<int>(std::floor(std::fmin(std::fmax(b[i], -400.0f), 400.0f)))))
EMU_MAP1(_mm512_sqrt_ps, __m512, float, std::sqrt(a[i]))
EMU_MAP1(_mm512_abs_ps, __m512, float, std::fabs(a[i]))
EMU_MAP3(_mm512_fmadd_ps, __m512, float, __builtin_fmaf(a[i], b[i], c[i]))
EMU_MAP3(_mm512_fmsub_ps, __m512, float, __builtin_fmaf(a[i], b[i], -c[i]))
EMU_MAP3(_mm512_fnmadd_ps, __m512, float, __builtin_fmaf(-a[i], b[i], c[i]))
EMU_MAP3(_mm512_fnmsub_ps, __m512, float, __builtin_fmaf(-a[i], b[i], -c[i]))
EMU __m512 _mm512_roundscale_ps(__m512 x, int control) { /* to multiples of 2^-(control / 16) */
  const auto a = emu::lanes<float>(x);
  return emu::fill<__m512, float>([&](int i) {
    const float scaled = std::ldexp(a[i], control >> 4);
    const float whole = control & 4 ? std::nearbyint(scaled) : (control & 3) == 0 ? std::nearbyint(scaled)
                        : (control & 3) == 1 ? std::floor(scaled) : (control & 3) == 2 ? std::ceil(scaled) : std::trunc(scaled);
    return std::ldexp(whole, -(control >> 4));
  });
}
/* What rounding as by _mm512_roundscale_ps takes away. */
EMU __m512 _mm512_reduce_ps(__m512 x, int control) { return _mm512_sub_ps(x, _mm512_roundscale_ps(x, control)); }
/* Halves onto one another, as the compilers do it. */
template <typename F>
EMU float emu_reduce(__m512 x, F join) {
  auto a = emu::lanes<float>(x);
  for (int width = 8; width; width /= 2)
    for (int i = 0; i < width; ++i) a.at[i] = join(a[i], a[i + width]);
  return a[0];
}
EMU float _mm512_reduce_add_ps(__m512 x) { return emu_reduce(x, [](float a, float b) { return a + b; }); }
EMU int _mm512_reduce_add_epi32(__m512i x) {
  uint32_t lanes[16], sum = 0;
  std::memcpy(lanes, &x, sizeof lanes);
  for (const uint32_t lane : lanes) sum += lane;
  return static_cast<int>(sum);
}
EMU float _mm512_reduce_max_ps(__m512 x) { return emu_reduce(x, [](float a, float b) { return a > b ? a : b; }); }
EMU float _mm512_reduce_min_ps(__m512 x) { return emu_reduce(x, [](float a, float b) { return a < b ? a : b; }); }

/* ---- Integers: additions wrap, so they are of unsigned lanes ---- */

EMU_MAP2(_mm512_add_epi8, __m512i, uint8_t, a[i] + b[i])
EMU_MAP2(_mm512_add_epi16, __m512i, uint16_t, a[i] + b[i])
EMU_MASKED2(add, epi32, __m512i, uint32_t, a[i] + b[i])
EMU_MAP2(_mm512_sub_epi8, __m512i, uint8_t, a[i] - b[i])
EMU_MAP2(_mm512_sub_epi16, __m512i, uint16_t, a[i] - b[i])
EMU_MASKED2(sub, epi32, __m512i, uint32_t, a[i] - b[i])
EMU_MAP2(_mm512_mullo_epi16, __m512i, uint16_t, static_cast<uint32_t>(a[i]) * b[i])
EMU_MAP2(_mm512_mullo_epi32, __m512i, uint32_t, a[i] * b[i])
EMU_MAP2(_mm512_max_epi32, __m512i, int32_t, a[i] > b[i] ? a[i] : b[i])
EMU_MAP2(_mm512_min_epi32, __m512i, int32_t, a[i] < b[i] ? a[i] : b[i])
#define EMU_LOGIC(suffix)                                              \
  EMU_MAP2(_mm512_and_##suffix, __m512i, uint64_t, a[i] & b[i])        \
  EMU_MAP2(_mm512_or_##suffix, __m512i, uint64_t, a[i] | b[i])         \
  EMU_MAP2(_mm512_xor_##suffix, __m512i, uint64_t, a[i] ^ b[i])        \
  EMU_MAP2(_mm512_andnot_##suffix, __m512i, uint64_t, ~a[i] & b[i])
EMU_LOGIC(si512)
EMU_LOGIC(epi32)
EMU __m512i _mm512_ternarylogic_epi32(__m512i x, __m512i y, __m512i z, int table) { /* bit 4x + 2y + z of the table */
  const auto a = emu::lanes<uint32_t>(x), b = emu::lanes<uint32_t>(y), c = emu::lanes<uint32_t>(z);
  return emu::fill<__m512i, uint32_t>([&](int i) {
    uint32_t to = 0;
    for (int bit = 0; bit < 32; ++bit)
      to |= (static_cast<uint32_t>(table) >> ((a[i] >> bit & 1) * 4 + (b[i] >> bit & 1) * 2 + (c[i] >> bit & 1)) & 1u) << bit;
    return to;
  });
}
/* Shifted out altogether: zero, or the sign. */
#define EMU_SHIFT(op, suffix, T, e) \
  EMU __m512i _mm512_##op##_##suffix(__m512i x, unsigned n) { const auto a = emu::lanes<T>(x); return emu::fill<__m512i, T>([&](int i) { return e; }); }
EMU_SHIFT(slli, epi16, uint16_t, n > 15 ? 0 : static_cast<uint32_t>(a[i]) << n)
EMU_SHIFT(srli, epi16, uint16_t, n > 15 ? 0 : a[i] >> n)
EMU_SHIFT(srai, epi16, int16_t, a[i] >> (n > 15 ? 15 : n))
EMU_SHIFT(slli, epi32, uint32_t, n > 31 ? 0 : a[i] << n)
EMU_SHIFT(srli, epi32, uint32_t, n > 31 ? 0 : a[i] >> n)
EMU_SHIFT(srai, epi32, int32_t, a[i] >> (n > 31 ? 31 : n))

/* sum[i] + the products of dword i's four bytes (unsigned, signed) or two words, which wraps. */
template <typename V>
EMU V emu_dpbusd(V sum, V x, V y) {
  const auto c = emu::lanes<uint32_t>(sum);
  const auto a = emu::lanes<uint8_t>(x);
  const auto b = emu::lanes<int8_t>(y);
  return emu::fill<V, uint32_t>([&](int i) {
    int32_t dot = 0;
    for (int j = 4 * i; j < 4 * i + 4; ++j) dot += a[j] * b[j];
    return c[i] + static_cast<uint32_t>(dot);
  });
}
EMU __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i x, __m512i y) { return emu_dpbusd(sum, x, y); }
EMU __m256i _mm256_dpbusd_epi32(__m256i sum, __m256i x, __m256i y) { return emu_dpbusd(sum, x, y); }
EMU __m512i _mm512_madd_epi16(__m512i x, __m512i y) {
  const auto a = emu::lanes<int16_t>(x), b = emu::lanes<int16_t>(y);
  return emu::fill<__m512i, uint32_t>([&](int i) {
    return static_cast<uint32_t>(a[2 * i] * b[2 * i]) + static_cast<uint32_t>(a[2 * i + 1] * b[2 * i + 1]);
  });
}
EMU __m512i _mm512_dpwssd_epi32(__m512i sum, __m512i x, __m512i y) { return _mm512_add_epi32(sum, _mm512_madd_epi16(x, y)); }
EMU __m512i _mm512_maddubs_epi16(__m512i x, __m512i y) { /* saturates */
  const auto a = emu::lanes<uint8_t>(x);
  const auto b = emu::lanes<int8_t>(y);
  return emu::fill<__m512i, int16_t>([&](int i) {
    const int sum = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum;
  });
}
EMU __m512 _mm512_dpbf16_ps(__m512 sum, __m512bh x, __m512bh y) { /* the odd product first */
  const auto c = emu::lanes<float>(sum);
  const auto a = emu::lanes<uint16_t>(x), b = emu::lanes<uint16_t>(y);
  return emu::fill<__m512, float>([&](int i) {
    return emu::bf16_fma(emu::bf16_fma(c[i], a[2 * i + 1], b[2 * i + 1]), a[2 * i], b[2 * i]);
  });
}

}  // namespace

#include "moves.h"

#endif
