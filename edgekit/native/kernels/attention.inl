/* Attention with the running softmax of FlashAttention (https://arxiv.org/abs/2205.14135) over blocks of keys; included
 * after common.inl. A row is one query head of one position. kAttendRows rows are processed together, so that each key or
 * value is converted to float once for all of them. The lanes of a register are keys for the scores and dimensions for the
 * sums.
 *
 * The weight of a key is 2^(score - largest), where scores are in units of 1 / log2(e) and `largest` is the largest score of
 * the row so far, or at most kSlack less. So `largest` grows a few times in the first blocks and rarely after that. Scores
 * are computed relative to it. */
namespace {

#ifndef EK_ATTEND_ROWS
#define EK_ATTEND_ROWS 4
#endif
/* Chosen so that the sums of a tile (kAttendRows * 16 floats), the keys or values, and a broadcast fit into the registers:
 * 6 rows with the 32 registers of 4 floats of NEON and the 16 of 8 of AVX2, 12 rows with the 32 of 16 of AVX-512. */
constexpr int kAttendRows = EK_ATTEND_ROWS;
/* For functions with loops that need all registers: gcc 12 spills some if it inlines them. */
#define EK_ALONE __attribute__((noinline))
/* Up to this many rows (two tiles) read keys and values as they are stored: one token with up to 8 query heads per group. */
constexpr int kDecodeRows = 2 * kAttendRows;
constexpr int kKeyBlock = kKvBlock;
constexpr int kVecs = kKeyLanes / kLanes;
constexpr float kLowest = -1e30f;
constexpr float kSlack = 8.0f; /* weights are at most 2^8 */

struct AttendScratch {
  float *keys;            /* (kKeyBlock / 16, head_dim, 16), as float */
  float *values;          /* (head_dim / 16, kKeyBlock, 16), as float */
  float *q, *sum;         /* (rows, head_dim) */
  float *largest, *total; /* (rows) and (rows, kLanes): the lanes of the total are added at the end */
  float *weights;         /* (kAttendRows, kKeyBlock) */
  int16_t *whole_q;       /* (kDecodeRows, head_dim), int16 or bfloat16: q is whole_q * q_scales; this and the rest are used with EK_PAIRS */
  float *q_scales;        /* (kDecodeRows) */
  int16_t *whole_weights; /* (kAttendRows, kKeyBlock), like whole_q */
};

inline float *take(uint8_t **at, int64_t count) {
  float *start = reinterpret_cast<float *>(*at);
  *at += (count + 15) / 16 * 16 * static_cast<int64_t>(sizeof(float));
  return start;
}

inline AttendScratch split_scratch(uint8_t **at, int head_dim, int64_t rows) {
  AttendScratch s;
  s.keys = take(at, kKeyBlock * head_dim);
  s.values = take(at, kKeyBlock * head_dim);
  s.q = take(at, rows * head_dim);
  s.sum = take(at, rows * head_dim);
  s.largest = take(at, rows);
  s.total = take(at, rows * kLanes);
  s.weights = take(at, kAttendRows * kKeyBlock);
  s.whole_q = reinterpret_cast<int16_t *>(take(at, kDecodeRows * head_dim / 2));
  s.q_scales = take(at, kDecodeRows);
  s.whole_weights = reinterpret_cast<int16_t *>(take(at, kAttendRows * kKeyBlock / 2));
  return s;
}

size_t attend_scratch(int head_dim, int64_t rows) {
  uint8_t *const start = reinterpret_cast<uint8_t *>(uintptr_t{64}); /* never dereferenced */
  uint8_t *end = start;
  split_scratch(&end, head_dim, rows);
  return static_cast<size_t>(end - start);
}

/* Convert a block of keys and values for prefill. int8 is multiplied by its scales. Values are stored in panels of 16
 * dimensions, which value_tile reads from start to end. */
template <typename T>
inline void convert_block(const AttentionJob &job, const T *keys, const T *values, int64_t at, int count, const AttendScratch &s) {
  const int head_dim = job.head_dim;
  constexpr bool kScaled = sizeof(T) == 1;
  for (int part = 0; part * kKeyLanes < count; ++part)
    for (int v = 0; v < kKeyLanes; v += kLanes) {
      const Vec scale = kScaled ? load(job.keys.scales + at + part * kKeyLanes + v) : Vec{};
      for (int d = 0; d < head_dim; ++d) {
        const int i = (part * head_dim + d) * kKeyLanes + v;
        store(kScaled ? load(keys + i) * scale : load(keys + i), s.keys + i);
      }
    }
  for (int t = 0; t < count; ++t) {
    const Vec scale = Vec{} + (kScaled ? job.values.scales[at + t] : 1.0f);
    for (int d = 0; d < head_dim; d += kKeyLanes)
      for (int v = 0; v < kKeyLanes; v += kLanes) {
        const Vec x = load(values + t * head_dim + d + v);
        store(kScaled ? x * scale : x, s.values + (d / kKeyLanes * kKeyBlock + t) * kKeyLanes + v);
      }
  }
}

/* Prefetch the cache line that is one block after `at`. The arithmetic on a block takes long enough for the next one to
 * arrive from memory if its lines are requested one at a time; requesting a whole block at once would fill the line fill
 * buffers and stall the loads that follow. A prefetch does not fault, so the address need not be valid. */
template <typename T>
EK_INLINE void prefetch_next(const T *at, int head_dim) {
  const size_t block = sizeof(T) * static_cast<size_t>(kKeyBlock * head_dim);
  __builtin_prefetch(reinterpret_cast<const char *>(reinterpret_cast<uintptr_t>(at) + block), 0, 2);
}

/* score[r, t] = sum over d of q[r, d] * key[d, t] - base[r] for 16 keys, times their scales for int8. Except for converted
 * keys (float), the next block is prefetched. */
template <int kRows, typename T>
EK_ALONE void score_tile(const float *q, const T *key, const float *scales, const float *base, int head_dim, float *score) {
  constexpr bool kScaled = sizeof(T) == 1;
  Vec sum[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) sum[r][v] = Vec{} - (kScaled ? 0.0f : base[r]);
  for (int d = 0; d < head_dim; ++d) {
    Vec k[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) k[v] = load(key + d * kKeyLanes + v * kLanes);
    if (sizeof(T) < 4) prefetch_next(key + d * kKeyLanes, head_dim);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const float x = q[r * head_dim + d];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[r][v] += x * k[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v)
      store(kScaled ? sum[r][v] * load(scales + v * kLanes) - base[r] : sum[r][v], score + r * kKeyBlock + v * kLanes);
}

/* sum[r, d] += sum over t of weight[r, t] * value[t, d]. */
template <int kRows, typename T>
EK_ALONE void value_tile(const float *weight, const T *value, int count, int head_dim, float *sums) {
  constexpr bool kConverted = sizeof(T) == 4;
  const int stride = kConverted ? kKeyLanes : head_dim;
  for (int at = 0; at < head_dim; at += kKeyLanes) {
    const T *from = value + (kConverted ? at * kKeyBlock : at);
    Vec sum[kRows][kVecs];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[r][v] = load(sums + r * head_dim + at + v * kLanes);
    for (int t = 0; t < count; ++t) {
      Vec x[kVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) x[v] = load(from + t * stride + v * kLanes);
      if (!kConverted) prefetch_next(from + t * stride, head_dim);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const float w = weight[r * kKeyBlock + t];
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) sum[r][v] += w * x[v];
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) store(sum[r][v], sums + r * head_dim + at + v * kLanes);
  }
}

typedef uint32_t UintVec __attribute__((vector_size(kLanes * sizeof(uint32_t))));

/* 2^x for x <= 127, accurate to 2 units in the last place; below -126 it is 2^-126. The sum with 1.5 * 2^23 rounds x to an
 * integer, which is then in the low bits. */
EK_INLINE Vec power_of_two(Vec x) {
  x = larger(x, Vec{} - 126.0f);
  const Vec rounded = x + 12582912.0f, r = x - (rounded - 12582912.0f);
  Vec p = r * 1.327647318e-3f + 9.675541745e-3f; /* the polynomial with the smallest largest error for |r| <= 1/2 */
  p = p * r + 5.550713274e-2f;
  p = p * r + 2.402211972e-1f;
  p = p * r + 6.931469671e-1f;
  p = p * r + 1.000000072f;
  UintVec bits, exponent;
  std::memcpy(&bits, &p, sizeof bits);
  std::memcpy(&exponent, &rounded, sizeof exponent);
  bits += exponent << 23;
  std::memcpy(&p, &bits, sizeof p);
  return p;
}

/* Move the weights of a row to a larger `largest`; peak: the largest of the scores (`width`). */
inline void raise_largest(const AttendScratch &s, int64_t row, int head_dim, bool first, float peak, float *score, int width) {
  for (int t = 0; t < width; t += kLanes) store(load(score + t) - peak, score + t);
  if (first) {
    s.largest[row] = peak;
    return;
  }
  s.largest[row] += peak;
  const Vec shrink = power_of_two(Vec{} - peak);
  float *sum = s.sum + row * head_dim, *total = s.total + row * kLanes;
  store(load(total) * shrink, total);
  for (int d = 0; d < head_dim; d += kLanes) store(load(sum + d) * shrink, sum + d);
}

/* Convert the first `width` scores (a multiple of 16) of a row to softmax weights; the row sees the first `seen` keys, of
 * which there is at least one. Scores are relative to s.largest, or in the first block (`first`) to zero. */
EK_ALONE void soften(const AttendScratch &s, int64_t row, int head_dim, bool first, float *score, int seen, int width,
                   const float *value_scales) {
  if (seen < width) {
    IntVec lane;
    for (int i = 0; i < kLanes; ++i) lane[i] = i;
    for (int t = 0; t < width; t += kLanes) store(lane + t < seen ? load(score + t) : Vec{} + kLowest, score + t);
  }
  Vec most = load(score);
  for (int t = kLanes; t < width; t += kLanes) most = larger(most, load(score + t));
  const float peak = largest_lane(most);
  if (first || peak > kSlack) raise_largest(s, row, head_dim, first, peak, score, width);
  Vec added = {};
  for (int t = 0; t < width; t += kLanes) {
    Vec weight = power_of_two(load(score + t));
    added += weight;
    if (value_scales) weight *= load(value_scales + t);
    store(weight, score + t);
  }
  float *total = s.total + row * kLanes;
  store(load(total) + added, total);
}

/* Decode by products of pairs of 16-bit numbers; see avx2_pairs.inl. */
#ifdef EK_PAIRS
#include EK_PAIRS
#else
template <typename T, int kRows>
constexpr bool kUsesPairs = false;
#endif

/* The first row of the job that sees the key of position `at`. */
inline int64_t first_row(const AttentionJob &job, int64_t at) {
  return at > job.position ? (at - job.position) * job.group : 0;
}

/* How many of the keys at to at + count - 1 row `row` sees. */
inline int keys_seen(const AttentionJob &job, int64_t row, int64_t at, int count) {
  const int64_t limit = job.position + row / job.group + 1 - at;
  return static_cast<int>(limit < 0 ? 0 : limit < count ? limit : count);
}

/* kRows rows from `row` on with the keys and values of a block of `count` positions that starts at position `at`. */
template <int kRows, typename T>
void attend_tile(const AttentionJob &job, const AttendScratch &s, const T *keys, const T *values, int64_t row, int64_t at, int count) {
  const int head_dim = job.head_dim;
  const bool first = at == job.begin;
  count = keys_seen(job, row + kRows - 1, at, count);
  const int width = (count + kKeyLanes - 1) / kKeyLanes * kKeyLanes;
  float base[kRows];
  for (int r = 0; r < kRows; ++r) base[r] = first ? 0.0f : s.largest[row + r];
#ifdef EK_PAIRS
  if constexpr (kUsesPairs<T, kRows>)
    for (int t = 0; t < width; t += kPairKeys)
      score_pairs<kRows>(s.whole_q + row * head_dim, s.q_scales + row, keys + t * head_dim, job.keys.scales + at + t, base,
                         head_dim, s.weights + t);
  else
#endif
    for (int t = 0; t < width; t += kKeyLanes)
      score_tile<kRows>(s.q + row * head_dim, keys + t * head_dim, sizeof(T) == 1 ? job.keys.scales + at + t : nullptr, base,
                        head_dim, s.weights + t);
  for (int r = 0; r < kRows; ++r) {
    float *weights = s.weights + r * kKeyBlock;
    const int seen = keys_seen(job, row + r, at, count);
    if (seen)
      soften(s, row + r, head_dim, first, weights, seen, width, sizeof(T) == 1 ? job.values.scales + at : nullptr);
    else
      std::memset(weights, 0, sizeof(float) * static_cast<size_t>(width));
  }
#ifdef EK_PAIRS
  if constexpr (kUsesPairs<T, kRows>) {
    float scales[kRows];
    for (int r = 0; r < kRows; ++r) scales[r] = round_pairs<T>(s.weights + r * kKeyBlock, width, s.whole_weights + r * kKeyBlock);
    value_pairs<kRows>(s.whole_weights, scales, values, count, head_dim, s.sum + row * head_dim);
  } else
#endif
    value_tile<kRows>(s.weights, values, count, head_dim, s.sum + row * head_dim);
}

/* attend_tile for `rows` rows, at most kRows. */
template <int kRows, typename T>
inline void attend_rows(const AttentionJob &job, const AttendScratch &s, const T *keys, const T *values, int64_t row, int rows,
                        int64_t at, int count) {
  if constexpr (kRows > 1)
    if (rows < kRows) return attend_rows<kRows - 1>(job, s, keys, values, row, rows, at, count);
  attend_tile<kRows>(job, s, keys, values, row, at, count);
}

inline void start_rows(const AttentionJob &job, const AttendScratch &s, int64_t rows) {
  const float scale = 1.44269504f / std::sqrt(static_cast<float>(job.head_dim)); /* weights are powers of two */
  for (int64_t row = 0; row < rows; ++row) {
    const float *q = job.q + row / job.group * job.q_stride + row % job.group * job.head_dim;
    for (int i = 0; i < job.head_dim; ++i) {
      s.q[row * job.head_dim + i] = q[i] * scale;
      s.sum[row * job.head_dim + i] = 0.0f;
    }
    s.largest[row] = kLowest;
    for (int i = 0; i < kLanes; ++i) s.total[row * kLanes + i] = 0.0f;
#ifdef EK_PAIRS
    if (row >= kDecodeRows) continue;
    const float *from = s.q + row * job.head_dim;
    int16_t *to = s.whole_q + row * job.head_dim;
    s.q_scales[row] = job.type == KvType::kInt8 ? round_pairs<int8_t>(from, job.head_dim, to)
                                                : round_pairs<uint16_t>(from, job.head_dim, to);
#endif
  }
}

inline void finish_rows(const AttentionJob &job, const AttendScratch &s, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) {
    float *y = job.y + row / job.group * job.y_stride + row % job.group * job.head_dim;
    const float total = add_lanes(load(s.total + row * kLanes)), share = job.total ? 1.0f : 1.0f / total;
    for (int i = 0; i < job.head_dim; ++i) y[i] = s.sum[row * job.head_dim + i] * share;
    if (!job.total) continue;
    job.largest[row] = s.largest[row] * 0.693147181f; /* from the base 2 to the base e */
    job.total[row] = total;
  }
}

/* kFew: there are at most kDecodeRows rows. */
template <typename T, bool kFew>
inline void attend_blocks(const AttentionJob &job, const AttendScratch &s, int64_t rows) {
  const T *keys = static_cast<const T *>(job.keys.rows), *values = static_cast<const T *>(job.values.rows);
  const int64_t furthest = job.position + job.m < job.end ? job.position + job.m : job.end;
  for (int64_t at = job.begin; at < furthest; at += kKeyBlock) {
    const int64_t left = furthest - at;
    const int count = static_cast<int>(left < kKeyBlock ? left : kKeyBlock);
    const T *key = keys + at * job.head_dim, *value = values + at * job.head_dim;
    const bool decode = kFew || rows <= kDecodeRows; /* each number is used once or twice, so it is converted when it is used */
    if constexpr (!kFew)
      if (!decode) convert_block(job, key, value, at, count, s);
    for (int64_t row = first_row(job, at); row < rows; row += kAttendRows) {
      const int some = static_cast<int>(rows - row < kAttendRows ? rows - row : kAttendRows);
      if (decode)
        attend_rows<kAttendRows>(job, s, key, value, row, some, at, count);
      else if constexpr (!kFew)
        attend_rows<kAttendRows, float>(job, s, s.keys, s.values, row, some, at, count);
    }
  }
}

[[maybe_unused]] void attend(const AttentionJob &job, uint8_t *scratch) {
  const int64_t rows = job.m * job.group;
  const AttendScratch s = split_scratch(&scratch, job.head_dim, rows);
  start_rows(job, s, rows);
  if (job.type == KvType::kInt8)
    attend_blocks<int8_t, false>(job, s, rows);
  else
    attend_blocks<uint16_t, false>(job, s, rows);
  finish_rows(job, s, rows);
}

/* attend() for at most kDecodeRows rows and a cache of T. */
template <typename T>
inline void attend_few(const AttentionJob &job, uint8_t *scratch) {
  const int64_t rows = job.m * job.group;
  const AttendScratch s = split_scratch(&scratch, job.head_dim, rows);
  start_rows(job, s, rows);
  attend_blocks<T, true>(job, s, rows);
  finish_rows(job, s, rows);
}

}  // namespace
