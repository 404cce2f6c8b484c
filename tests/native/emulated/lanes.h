/* Registers as arrays of lanes, used to write the emulated instructions. */
#ifndef EDGEKIT_TESTS_EMULATED_LANES_H
#define EDGEKIT_TESTS_EMULATED_LANES_H

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {
namespace emu {

/* Abort, where a processor would fault or where this emulation is incomplete. */
[[noreturn]] inline void stop(const char *why) {
  std::fprintf(stderr, "emulated instruction: %s\n", why);
  std::abort();
}

template <typename T, int kCount>
struct Lanes {
  T at[kCount];
  T operator[](int i) const { return at[i]; }
};

/* A register as lanes of T. */
template <typename T, typename V>
inline Lanes<T, sizeof(V) / sizeof(T)> lanes(const V &v) {
  Lanes<T, sizeof(V) / sizeof(T)> to;
  std::memcpy(&to, &v, sizeof to);
  return to;
}

/* The register whose lane i of T is f(i). */
template <typename V, typename T, typename F>
inline V fill(F f) {
  Lanes<T, sizeof(V) / sizeof(T)> from;
  for (int i = 0; i < static_cast<int>(sizeof(V) / sizeof(T)); ++i) from.at[i] = static_cast<T>(f(i));
  V v;
  std::memcpy(&v, &from, sizeof v);
  return v;
}

/* A mask with a bit for each lane i for which f(i) is true. */
template <int kCount, typename F>
inline uint64_t where(F f) {
  uint64_t mask = 0;
  for (int i = 0; i < kCount; ++i) mask |= static_cast<uint64_t>(f(i) ? 1 : 0) << i;
  return mask;
}

inline bool has(uint64_t mask, int lane) { return mask >> lane & 1; }

/* Lane i of x where the mask has a bit, else of y. */
template <typename T, typename V>
inline V select(uint64_t mask, const V &x, const V &y) {
  const auto a = lanes<T>(x), b = lanes<T>(y);
  return fill<V, T>([&](int i) { return has(mask, i) ? a[i] : b[i]; });
}

/* Does not access the memory of lanes that are masked out. */
template <typename V, typename T>
inline V load(uint64_t mask, const void *from, const V &other) {
  const auto b = lanes<T>(other);
  return fill<V, T>([&](int i) {
    T value = b[i];
    if (has(mask, i)) std::memcpy(&value, static_cast<const uint8_t *>(from) + i * static_cast<int>(sizeof(T)), sizeof value);
    return value;
  });
}

template <typename T, typename V>
inline void store(uint64_t mask, void *to, const V &v) {
  const auto a = lanes<T>(v);
  for (int i = 0; i < static_cast<int>(sizeof(V) / sizeof(T)); ++i)
    if (has(mask, i)) std::memcpy(static_cast<uint8_t *>(to) + i * static_cast<int>(sizeof(T)), &a.at[i], sizeof(T));
}

template <typename V>
inline V load_all(const void *from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline const void *aligned64(const void *p) {
  if (reinterpret_cast<uintptr_t>(p) % 64) stop("an aligned load or store of 64 bytes at an address that is not a multiple of 64");
  return p;
}

/* The first bytes of v. If the result is longer, the other bytes, which a cast leaves undefined, are NaN as float. */
template <typename To, typename From>
inline To cast(const From &v, int undefined = 0xff) {
  To to;
  std::memset(&to, undefined, sizeof to);
  std::memcpy(&to, &v, sizeof(To) < sizeof(From) ? sizeof(To) : sizeof(From));
  return to;
}

/* Part number `index` of v, and v with that part replaced. */
template <typename Part, typename V>
inline Part extract(const V &v, int index) {
  return load_all<Part>(reinterpret_cast<const uint8_t *>(&v) + index * static_cast<int>(sizeof(Part)));
}
template <typename V, typename Part>
inline V insert(V v, const Part &part, int index) {
  std::memcpy(reinterpret_cast<uint8_t *>(&v) + index * static_cast<int>(sizeof(Part)), &part, sizeof part);
  return v;
}
template <typename V, typename Part>
inline V repeat(const Part &part) {
  V v;
  for (size_t at = 0; at < sizeof v; at += sizeof part) std::memcpy(reinterpret_cast<uint8_t *>(&v) + at, &part, sizeof part);
  return v;
}

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

/* Flush denormals to zero, as the bfloat16 instructions do for inputs and results, independent of MXCSR. */
inline float flush(float x) { return (bits_of(x) & 0x7f800000u) ? x : float_of(bits_of(x) & 0x80000000u); }

inline float from_bf16(uint16_t x) { return float_of(static_cast<uint32_t>(x) << 16); }

inline uint16_t to_bf16(float x) { /* VCVTNEPS2BF16: round to nearest even */
  const uint32_t bits = bits_of(flush(x)), top = bits >> 16;
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(top | 0x40u); /* a quiet NaN */
  if ((bits & 0x7f800000u) == 0x7f800000u) return static_cast<uint16_t>(top);
  return static_cast<uint16_t>((bits + 0x7fffu + (top & 1u)) >> 16);
}

/* sum + a * b with one rounding. */
inline float bf16_fma(float sum, uint16_t a, uint16_t b) {
  return flush(__builtin_fmaf(flush(from_bf16(a)), flush(from_bf16(b)), flush(sum)));
}

}  // namespace emu
}  // namespace

#endif
