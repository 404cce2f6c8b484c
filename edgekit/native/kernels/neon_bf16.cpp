/* neon_bf16: needs ARMv8.2 with bfloat16 products (Cortex-A510, A710, X2, Neoverse V1, Apple M2 and later). */
#include "neon.inl"

namespace {

/* Attention of many rows. BFMMLA multiplies four columns of two rows with those of two others, which gives 2 by 2 sums in
 * float, four times the products of a multiply-add in float. Queries, keys, weights and values are rounded to bfloat16:
 *
 *   queries   (rows / 2, head_dim / 4, 2, 4)    times log2(e) / sqrt(head_dim): weights are powers of two
 *   keys      (head_dim / 4, kKeys, 4)          dimensions of a key are neighbours
 *   weights   (rows / 2, kKeys / 4, 2, 4)
 *   values    (kKeys / 4, head_dim, 4)          positions of a dimension are neighbours
 *   sums      (rows / 2, head_dim / 2, 2, 2)    float: two rows by two dimensions
 */
constexpr int kKeys = kKvBlock;
constexpr int kTileRows = 8; /* by 8 keys or dimensions: 16 registers of sums and 8 of operands */
constexpr int kPairs = kTileRows / 2;
constexpr float kHidden = -1e30f; /* the score of a key that a row does not see */

struct Bf16Scratch {
  bfloat16_t *q, *keys, *values, *weights;
  float *sum, *largest, *total, *scores;
};

template <typename T>
inline T *take_array(uint8_t **at, int64_t count) {
  T *start = reinterpret_cast<T *>(*at);
  *at += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  return start;
}

inline Bf16Scratch split_bf16_scratch(uint8_t **at, int head_dim, int64_t rows) {
  rows = (rows + kTileRows - 1) / kTileRows * kTileRows;
  Bf16Scratch s;
  s.q = take_array<bfloat16_t>(at, rows * head_dim);
  s.keys = take_array<bfloat16_t>(at, kKeys * head_dim);
  s.values = take_array<bfloat16_t>(at, kKeys * head_dim);
  s.weights = take_array<bfloat16_t>(at, kTileRows * kKeys);
  s.sum = take_array<float>(at, rows * head_dim);
  s.largest = take_array<float>(at, rows);
  s.total = take_array<float>(at, rows);
  s.scores = take_array<float>(at, kTileRows * kKeys);
  return s;
}

size_t attend_bf16_scratch(int head_dim, int64_t rows) {
  uint8_t *const start = reinterpret_cast<uint8_t *>(uintptr_t{64}); /* never dereferenced */
  uint8_t *end = start;
  split_bf16_scratch(&end, head_dim, rows);
  const auto own = static_cast<size_t>(end - start), lanes = attend_scratch(head_dim, rows); /* attend() has few rows */
  return own > lanes ? own : lanes;
}

EK_INLINE void transpose(float32x4_t r[4]) {
  const auto wide = [](float32x4_t v) { return vreinterpretq_f64_f32(v); };
  const float64x2_t a = wide(vtrn1q_f32(r[0], r[1])), b = wide(vtrn2q_f32(r[0], r[1]));
  const float64x2_t c = wide(vtrn1q_f32(r[2], r[3])), d = wide(vtrn2q_f32(r[2], r[3]));
  r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
  r[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
  r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
  r[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

EK_INLINE bfloat16x8_t round_pair(float32x4_t low, float32x4_t high) {
  return vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(low), high);
}

EK_INLINE float32x4_t cached(const uint16_t *x) { return half_lanes(x); }
EK_INLINE float32x4_t cached(const int8_t *x) { return byte_lanes(x); }

/* Store a transposed square of four vectors. */
EK_INLINE void store_square(float32x4_t square[4], bfloat16_t *to) {
  transpose(square);
  vst1q_bf16(to, round_pair(square[0], square[1]));
  vst1q_bf16(to + 8, round_pair(square[2], square[3]));
}

/* Convert the keys and values of positions at to at + count - 1. int8 is multiplied by its scales. Values from `count` on are
 * zero; keys are not, as their scores are not used. The cache has room for whole blocks. */
template <typename T>
inline void convert_block_bf16(const AttentionJob &job, int64_t at, int count, const Bf16Scratch &s) {
  constexpr bool kScaled = sizeof(T) == 1;
  const int head_dim = job.head_dim;
  const T *keys = static_cast<const T *>(job.keys.rows) + at * head_dim;
  const T *values = static_cast<const T *>(job.values.rows) + at * head_dim;
  for (int t = 0; t < count; t += 4) {
    const T *from = keys + t / kKeyLanes * kKeyLanes * head_dim + t % kKeyLanes;
    const float32x4_t scale = kScaled ? vld1q_f32(job.keys.scales + at + t) : vdupq_n_f32(1.0f);
    for (int d = 0; d < head_dim; d += 4) {
      float32x4_t square[4];
      for (int i = 0; i < 4; ++i) {
        square[i] = cached(from + (d + i) * kKeyLanes);
        if (kScaled) square[i] = vmulq_f32(square[i], scale);
      }
      store_square(square, s.keys + (d / 4 * kKeys + t) * 4);
    }
  }
  for (int t = 0; t < count; t += 4)
    for (int d = 0; d < head_dim; d += 4) {
      float32x4_t square[4];
      for (int i = 0; i < 4; ++i) {
        square[i] = t + i < count ? cached(values + (t + i) * head_dim + d) : vdupq_n_f32(0);
        if (kScaled && t + i < count) square[i] = vmulq_n_f32(square[i], job.values.scales[at + t + i]);
      }
      store_square(square, s.values + (t / 4 * head_dim + d) * 4);
    }
}

inline void start_rows_bf16(const AttentionJob &job, const Bf16Scratch &s, int64_t rows) {
  const float scale = 1.44269504f / std::sqrt(static_cast<float>(job.head_dim));
  const int head_dim = job.head_dim;
  for (int64_t row = 0; row < (rows + kTileRows - 1) / kTileRows * kTileRows; ++row) {
    const float *q = job.q + row / job.group * job.q_stride + row % job.group * head_dim;
    bfloat16_t *to = s.q + row / 2 * head_dim * 2 + row % 2 * 4;
    for (int d = 0; d < head_dim; d += 4)
      vst1_bf16(to + 2 * d, vcvt_bf16_f32(row < rows ? vmulq_n_f32(vld1q_f32(q + d), scale) : vdupq_n_f32(0)));
    for (int d = 0; d < head_dim; ++d) s.sum[row * head_dim + d] = 0.0f;
    s.largest[row] = kHidden;
    s.total[row] = 0.0f;
  }
}

/* Multiply kPairs pairs of rows with four pairs of keys or dimensions, `steps` times four columns. From step to step, `left`
 * and `right` advance by 8 and right_step; pairs of rows are left_pair apart. */
EK_INLINE void multiply_tile(float32x4_t sum[kPairs][4], const bfloat16_t *left, int64_t left_pair, const bfloat16_t *right,
                             int64_t right_step, int steps) {
#pragma GCC unroll 1
  for (int step = 0; step < steps; ++step, left += 8, right += right_step) {
    bfloat16x8_t columns[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) columns[j] = vld1q_bf16(right + 8 * j);
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
      const bfloat16x8_t rows = vld1q_bf16(left + i * left_pair);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) sum[i][j] = vbfmmlaq_f32(sum[i][j], rows, columns[j]);
    }
  }
}

/* The scores of kTileRows rows with the first `count` keys, rounded up to a multiple of 8. */
__attribute__((noinline)) void score_bf16(const Bf16Scratch &s, int64_t row, int count, int head_dim) {
  for (int key = 0; key < count; key += 8) {
    float32x4_t sum[kPairs][4];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) sum[i / 4][i % 4] = vdupq_n_f32(0);
    multiply_tile(sum, s.q + row * head_dim, 2 * head_dim, s.keys + key * 4, kKeys * 4, head_dim / 4);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      float *to = s.scores + i / 4 * 2 * kKeys + key + i % 4 * 2;
      vst1_f32(to, vget_low_f32(sum[i / 4][i % 4]));
      vst1_f32(to + kKeys, vget_high_f32(sum[i / 4][i % 4]));
    }
  }
}

/* sum = sum * shrink + weights times the first `count` values, for kTileRows rows. */
__attribute__((noinline)) void value_bf16(const Bf16Scratch &s, int64_t row, int count, int head_dim, const float *shrink) {
  for (int d = 0; d < head_dim; d += 8) {
    float *sums = s.sum + row * head_dim + d * 2;
    float32x4_t sum[kPairs][4];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      const float32x4_t factor = vcombine_f32(vdup_n_f32(shrink[i / 4 * 2]), vdup_n_f32(shrink[i / 4 * 2 + 1]));
      sum[i / 4][i % 4] = vmulq_f32(vld1q_f32(sums + i / 4 * 2 * head_dim + i % 4 * 4), factor);
    }
    multiply_tile(sum, s.weights, 2 * kKeys, s.values + d * 4, head_dim * 4, (count + 3) / 4);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) vst1q_f32(sums + i / 4 * 2 * head_dim + i % 4 * 4, sum[i / 4][i % 4]);
  }
}

/* 2^x for x up to 127 with a relative error of 1e-4, a twentieth of the rounding to bfloat16; 2^-126 below -126. The sum with
 * 1.5 * 2^23 rounds x to an integer, which is then in the low bits. */
EK_INLINE float32x4_t coarse_power_of_two(float32x4_t x) {
  x = vmaxq_f32(x, vdupq_n_f32(-126.0f));
  const float32x4_t rounded = vaddq_f32(x, vdupq_n_f32(kMagic)), r = vsubq_f32(x, vsubq_f32(rounded, vdupq_n_f32(kMagic)));
  float32x4_t p = vfmaq_f32(vdupq_n_f32(0.24261114f), r, vdupq_n_f32(0.05517167f)); /* the least largest error, |r| <= 1/2 */
  p = vfmaq_f32(vdupq_n_f32(0.69326099f), r, p);
  p = vfmaq_f32(vdupq_n_f32(0.99992807f), r, p);
  return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vreinterpretq_s32_f32(rounded), 23)));
}

/* Convert the scores of row `r` of a tile, which is row `row` of the job, to weights. Returns the factor by which its earlier
 * sums shrink. */
__attribute__((noinline)) float soften_bf16(const Bf16Scratch &s, int64_t row, int r) {
  const float *scores = s.scores + r * kKeys;
  bfloat16_t *weights = s.weights + r / 2 * 2 * kKeys + r % 2 * 4;
  float32x4_t x[kKeys / 4], most = vdupq_n_f32(s.largest[row]), added = vdupq_n_f32(0);
#pragma GCC unroll 16
  for (int t = 0; t < kKeys / 4; ++t) {
    x[t] = vld1q_f32(scores + 4 * t);
    most = vmaxq_f32(most, x[t]);
  }
  const float peak = vmaxvq_f32(most);
#pragma GCC unroll 16
  for (int t = 0; t < kKeys / 4; ++t) {
    const float32x4_t weight = coarse_power_of_two(vsubq_f32(x[t], vdupq_n_f32(peak)));
    added = vaddq_f32(added, weight);
    vst1_bf16(weights + 8 * t, vcvt_bf16_f32(weight));
  }
  const float32x4_t fall = coarse_power_of_two(vdupq_n_f32(s.largest[row] - peak));
  const float shrink = peak == s.largest[row] ? 1.0f : vgetq_lane_f32(fall, 0);
  s.total[row] = s.total[row] * shrink + vaddvq_f32(added);
  s.largest[row] = peak;
  return shrink;
}

/* The weights of row `r` of a tile, which sees no key of a block. */
inline void clear_weights(const Bf16Scratch &s, int r) {
  bfloat16_t *weights = s.weights + r / 2 * 2 * kKeys + r % 2 * 4;
  for (int t = 0; t < kKeys / 4; ++t) vst1_bf16(weights + 8 * t, vcvt_bf16_f32(vdupq_n_f32(0)));
}

/* Rows row to row + kTileRows - 1 with the block of `count` keys at position `at`. */
inline void attend_tile_bf16(const AttentionJob &job, const Bf16Scratch &s, int64_t rows, int64_t row, int64_t at, int count) {
  float shrink[kTileRows];
  int seen[kTileRows], most = 0;
  for (int r = 0; r < kTileRows; ++r) {
    seen[r] = row + r < rows ? keys_seen(job, row + r, at, count) : 0;
    most = seen[r] > most ? seen[r] : most;
  }
  score_bf16(s, row, most, job.head_dim);
  for (int r = 0; r < kTileRows; ++r) {
    for (int t = seen[r]; t < kKeys; ++t) s.scores[r * kKeys + t] = kHidden;
    shrink[r] = 1.0f;
    if (seen[r]) shrink[r] = soften_bf16(s, row + r, r);
    else clear_weights(s, r);
  }
  value_bf16(s, row, most, job.head_dim, shrink);
}

inline void finish_rows_bf16(const AttentionJob &job, const Bf16Scratch &s, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) {
    float *y = job.y + row / job.group * job.y_stride + row % job.group * job.head_dim;
    const float *sum = s.sum + row / 2 * 2 * job.head_dim + row % 2 * 2, share = job.total ? 1.0f : 1.0f / s.total[row];
    for (int d = 0; d < job.head_dim; ++d) y[d] = sum[d / 2 * 4 + d % 2] * share;
    if (!job.total) continue;
    job.largest[row] = s.largest[row] * 0.693147181f; /* from the base 2 to the base e */
    job.total[row] = s.total[row];
  }
}

void attend_bf16(const AttentionJob &job, uint8_t *scratch) {
  const int64_t rows = job.m * job.group;
  if (rows <= kDecodeRows) return kNeonDotprod.attend(job, scratch);
  const Bf16Scratch s = split_bf16_scratch(&scratch, job.head_dim, rows);
  start_rows_bf16(job, s, rows);
  const int64_t furthest = job.position + job.m < job.end ? job.position + job.m : job.end;
  for (int64_t at = job.begin; at < furthest; at += kKeys) {
    const int count = static_cast<int>(furthest - at < kKeys ? furthest - at : kKeys);
    if (job.type == KvType::kInt8)
      convert_block_bf16<int8_t>(job, at, count, s);
    else
      convert_block_bf16<uint16_t>(job, at, count, s);
    for (int64_t row = first_row(job, at) / kTileRows * kTileRows; row < rows; row += kTileRows)
      attend_tile_bf16(job, s, rows, row, at, count);
  }
  finish_rows_bf16(job, s, rows);
}

constexpr Kernels attention_only() {
  Kernels table = {};
  table.name = "neon_bf16";
  table.attend = attend_bf16;
  table.attend_scratch = attend_bf16_scratch;
  table.attends_in_bf16 = true;
  return table;
}

}  // namespace

namespace ek {
extern const Kernels kNeonBf16 = attention_only();
}  // namespace ek
