/* The decode kernels multiply_one and multiply_few for AVX2; part of avx2.cpp. A line is 64 bytes of codes. */
namespace {

constexpr int kOffset8 = 128;

/* Sums of four products of (8-bit code - 128), whose magnitude and whose value are given. The intermediate sums of two fit
 * into 16 bits: 128 * 127 * 2 = 32512. The caller accounts for the 128. */
inline __m256i dot4_wide(__m256i size, __m256i shifted, __m256i values) {
  return widen(_mm256_maddubs_epi16(size, _mm256_sign_epi8(values, shifted)));
}

struct Nibbles {
  __m256i even, odd;
};

inline Nibbles split(__m256i packed) {
  const __m256i low = _mm256_set1_epi8(15);
  return {_mm256_and_si256(packed, low), _mm256_and_si256(_mm256_srli_epi16(packed, 4), low)};
}

/* The products of 64 columns (32 bytes of 4-bit codes) with one row: sixteen 16-bit sums of four products, at most
 * 15 * 127 * 4 = 7620. `column` is a multiple of 64. */
inline __m256i half_chunk(const Nibbles &codes, const int8_t *values, int64_t column) {
  values += column / kChunk * kChunk + column % kChunk / 2;
  return _mm256_add_epi16(_mm256_maddubs_epi16(codes.even, load256(values)),
                          _mm256_maddubs_epi16(codes.odd, load256(values + kChunk / 2)));
}

template <typename F>
EK_INLINE __m256i unit_sums(const uint8_t *codes, const int8_t *values, int64_t column) {
  if constexpr (F::kBits == 4) {
    const __m256i sums = half_chunk(split(load256(codes)), values, column);
    if constexpr (F::kBlock < 128) return widen(sums);
    return widen(_mm256_add_epi16(sums, half_chunk(split(load256(codes + 32)), values, column + 64)));
  } else {
    __m256i sums = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int i = 0; i < F::kBlock; i += 32) {
      const __m256i shifted = _mm256_xor_si256(load256(codes + i), _mm256_set1_epi8(static_cast<char>(0x80)));
      sums = _mm256_add_epi32(sums, dot4_wide(_mm256_abs_epi8(shifted), shifted, load256(values + column + i)));
    }
    return sums;
  }
}

}  // namespace

#include "decode256.inl"

namespace {

/* sum + dots * the scale of the activations * that of the weights. */
inline __m256 add_scaled(__m256 sum, __m256i dots, __m256 activations, __m256 weights) {
  return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(dots), activations), weights, sum);
}

/* A row of 4-bit weights in blocks of 128: 17 vector instructions for a line and one row of activations. Two alternating sums
 * hide the latency of a multiply-add. */
template <bool kHalf, int kRows>
inline void sum_blocks_of_128(const Matrix &w, int64_t blocks, const QuantizedRow *rows, int64_t n, const Ahead &ahead,
                      __m256 sums[kRows][2]) {
  const uint8_t *codes = w.codes + n * blocks * 64;
  const auto step = [&](int64_t b, int which) {
    const __m256 scale = block_scale<kHalf>(w.scales, n * blocks + b);
    const Nibbles first = split(load256(codes + b * 64)), second = split(load256(codes + b * 64 + 32));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m256i dots = _mm256_add_epi16(half_chunk(first, rows[r].values, b * 128), half_chunk(second, rows[r].values, b * 128 + 64));
      sums[r][which] = add_scaled(sums[r][which], widen(dots), _mm256_broadcast_ss(rows[r].scales + b), scale);
    }
    ahead.prefetch(codes, b * 64);
  };
  int64_t b = 0;
  for (; b + 2 <= blocks; b += 2) {
    step(b, 0);
    step(b + 1, 1);
  }
  if (b < blocks) step(b, 0);
}

/* The scales of 32 bytes of 4-bit codes from block b on (one block of 64 or two of 32), in the lanes of their sums. */
template <typename F>
inline __m256 half_chunk_scales(const void *scales, int64_t b) {
  if constexpr (F::kBlock == 64) return block_scale<F::kHalf>(scales, b);
  __m128 both;
  if constexpr (F::kHalf) {
    int32_t two;
    std::memcpy(&two, static_cast<const uint16_t *>(scales) + b, sizeof two);
    both = _mm_cvtph_ps(_mm_cvtsi32_si128(two));
  } else {
    int64_t two;
    std::memcpy(&two, static_cast<const float *>(scales) + b, sizeof two);
    both = _mm_castsi128_ps(_mm_cvtsi64_si128(two));
  }
  return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(both), _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
}

/* The same for blocks of 64 and 32. The last block of 32 may fill half a register. */
template <typename F, int kRows>
inline void sum_small_blocks(const Matrix &w, int64_t blocks, const QuantizedRow *rows, int64_t n, const Ahead &ahead,
                      __m256 sums[kRows][2]) {
  using Float = Format<F::kBits, F::kBlock, false>; /* the scales of activations are float */
  constexpr int kEach = 64 / F::kBlock;             /* blocks in 32 bytes */
  const int64_t bytes = blocks * (F::kBlock / 2), first = n * blocks;
  const uint8_t *codes = w.codes + n * bytes;
  const auto step = [&](int64_t at, __m256i packed, __m256 scale, int which) {
    const Nibbles nibbles = split(packed);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      sums[r][which] = add_scaled(sums[r][which], widen(half_chunk(nibbles, rows[r].values, at * 2)),
                                  half_chunk_scales<Float>(rows[r].scales, at / 32 * kEach), scale);
  };
  int64_t at = 0;
  for (; at + 64 <= bytes; at += 64) {
    const int64_t b = first + at / 32 * kEach;
    step(at, load256(codes + at), half_chunk_scales<F>(w.scales, b), 0);
    step(at + 32, load256(codes + at + 32), half_chunk_scales<F>(w.scales, b + kEach), 1);
    ahead.prefetch(codes, at);
  }
  if (at + 32 <= bytes) {
    step(at, load256(codes + at), half_chunk_scales<F>(w.scales, first + at / 32 * kEach), 0);
    at += 32;
  }
  if (F::kBlock == 32 && at < bytes) {
    const __m128i last = _mm_loadu_si128(reinterpret_cast<const __m128i *>(codes + at));
    step(at, _mm256_zextsi128_si256(last), block_scale<F::kHalf>(w.scales, first + blocks - 1), 1);
  }
}

template <typename F, int kRows>
inline void sum_bytes(const Matrix &w, int64_t blocks, const QuantizedRow *rows, int64_t n, const Ahead &ahead,
                      __m256 sums[kRows][2]) {
  const uint8_t *codes = w.codes + n * blocks * F::kBlock;
  const auto step = [&](int64_t b, int which) {
    __m256i dots[kRows];
#pragma GCC unroll 4
    for (int64_t i = 0; i < F::kBlock; i += 32) {
      const int64_t k = b * F::kBlock + i;
      const __m256i shifted = _mm256_xor_si256(load256(codes + k), _mm256_set1_epi8(static_cast<char>(0x80)));
      const __m256i size = _mm256_abs_epi8(shifted);
      if (k % 64 == 0) ahead.prefetch(codes, k);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m256i four = dot4_wide(size, shifted, load256(rows[r].values + k));
        dots[r] = i ? _mm256_add_epi32(dots[r], four) : four;
      }
    }
    const __m256 scale = block_scale<F::kHalf>(w.scales, n * blocks + b);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      sums[r][which] = add_scaled(sums[r][which], dots[r], _mm256_broadcast_ss(rows[r].scales + b), scale);
  };
  int64_t b = 0;
  for (; b + 2 <= blocks; b += 2) {
    step(b, 0);
    step(b + 1, 1);
  }
  if (b < blocks) step(b, 0);
}

/* Store the sum of the lanes of each row of activations in lanes[r]. */
template <typename F, int kRows>
inline void sum_row(const Matrix &w, const QuantizedRow *rows, int64_t n, const Ahead &ahead, float (*lanes)[8][8], int i) {
  const int64_t blocks = w.blocks();
  __m256 sums[kRows][2];
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
  if constexpr (F::kBits == 8)
    sum_bytes<F, kRows>(w, blocks, rows, n, ahead, sums);
  else if constexpr (F::kBlock == 128)
    sum_blocks_of_128<F::kHalf, kRows>(w, blocks, rows, n, ahead, sums);
  else
    sum_small_blocks<F, kRows>(w, blocks, rows, n, ahead, sums);
  if (F::kBits == 4 || w.zero_points)
    for (int64_t b = 0; b < blocks; b += 8) {
      const __m256 zeros = _mm256_mul_ps(some_scales<F::kHalf>(w.scales, n * blocks + b, blocks - b),
                                         some_zeros<F>(w, blocks, n, b, blocks - b < 8 ? blocks - b : 8));
      for (int r = 0; r < kRows; ++r) sums[r][1] = _mm256_fnmadd_ps(zeros, some_floats(rows[r].sums + b, blocks - b), sums[r][1]);
    }
  for (int r = 0; r < kRows; ++r) _mm256_store_ps(lanes[r][i], _mm256_add_ps(sums[r][0], sums[r][1]));
}

template <typename F, int kRows>
void few(const Matrix &w, const QuantizedRow *rows, int64_t first, int64_t last, const Ahead &ahead, float *y, int64_t stride,
         bool add_to) {
  alignas(32) float lanes[kRows][8][8] = {};
  for (int64_t n = first; n < last; n += 8) {
    const int64_t count = last - n < 8 ? last - n : 8;
    for (int i = 0; i < count; ++i) sum_row<F, kRows>(w, rows, n + i, ahead, lanes, i);
    for (int r = 0; r < kRows; ++r) write_sums(lanes[r], w.bias ? w.bias + n : nullptr, count, add_to, y + r * stride + n);
  }
}

constexpr int kFewTile = 4; /* rows of activations that share a pass over the codes */

/* few() for m rows, at most kRows. */
template <typename F, int kRows>
inline void few_tile(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, const Ahead &ahead, float *y,
                     int64_t stride, bool add_to) {
  if constexpr (kRows > 1)
    if (m < kRows) return few_tile<F, kRows - 1>(w, rows, m, first, last, ahead, y, stride, add_to);
  few<F, kRows>(w, rows, first, last, ahead, y, stride, add_to);
}

/* A few outputs at a time for all rows, so that codes come from memory once. */
template <typename F>
inline void few_rows(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                     bool add_to) {
  const Ahead ahead(w.row_bytes());
  for (int64_t n = first; n < last; n += 8)
    for (int r = 0; r < m; r += kFewTile)
      few_tile<F, kFewTile>(w, rows + r, m - r < kFewTile ? m - r : kFewTile, n, last - n < 8 ? last : n + 8, ahead, y + r * stride,
                            stride, add_to);
}

}  // namespace
