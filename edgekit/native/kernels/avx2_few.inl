/* What decode256.inl needs, for AVX2; part of avx2.cpp. */
namespace {

constexpr int kOffset8 = 128;

template <typename F>
struct UnitCodes { /* 4 bits: even and odd columns; 8 bits: code - 128 and its magnitude */
  __m256i part[F::kBits == 4 && F::kBlock < 128 ? 2 : F::kBits == 4 ? 4 : F::kBlock / 16];
};

template <typename F>
EK_INLINE UnitCodes<F> load_unit(const uint8_t *codes) {
  UnitCodes<F> unit;
  const __m256i low = _mm256_set1_epi8(15), high = _mm256_set1_epi8(static_cast<char>(0x80));
#pragma GCC unroll 4
  for (int i = 0; i < static_cast<int>(sizeof unit.part / 64); ++i) {
    const __m256i loaded = load256(codes + 32 * i);
    if constexpr (F::kBits == 4) {
      unit.part[2 * i] = _mm256_and_si256(loaded, low);
      unit.part[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(loaded, 4), low);
    } else {
      unit.part[2 * i] = _mm256_xor_si256(loaded, high);
      unit.part[2 * i + 1] = _mm256_abs_epi8(unit.part[2 * i]);
    }
  }
  return unit;
}

/* 4 bits: 16-bit sums of four or eight products of a block do not saturate: 15 * 127 * 8 = 15240. 8 bits: nor do those of two:
 * 128 * 127 * 2 = 32512. */
template <typename F>
EK_INLINE __m256i unit_sums(const UnitCodes<F> &unit, const int8_t *values, int64_t column) {
  if constexpr (F::kBits == 4) {
    values += column / kChunk * kChunk + column % kChunk / 2;
    __m256i sums = _mm256_add_epi16(_mm256_maddubs_epi16(unit.part[0], load256(values)),
                                    _mm256_maddubs_epi16(unit.part[1], load256(values + kChunk / 2)));
    if constexpr (F::kBlock == 128) {
      const __m256i more = _mm256_add_epi16(_mm256_maddubs_epi16(unit.part[2], load256(values + 32)),
                                            _mm256_maddubs_epi16(unit.part[3], load256(values + kChunk / 2 + 32)));
      sums = _mm256_add_epi16(sums, more);
    }
    return widen(sums);
  } else {
    __m256i sums = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int i = 0; i < F::kBlock / 32; ++i) {
      const __m256i x = _mm256_sign_epi8(load256(values + column + 32 * i), unit.part[2 * i]);
      sums = _mm256_add_epi32(sums, widen(_mm256_maddubs_epi16(unit.part[2 * i + 1], x)));
    }
    return sums;
  }
}

template <typename F>
constexpr int kFewTile = F::kBits == 8 ? 2 : 4; /* 8 bits: the head at most, which is not worth the code */
constexpr int kAlikeTile = 2;

}  // namespace

#include "decode256.inl"
