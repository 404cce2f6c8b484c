/* Attention with the running softmax of FlashAttention (https://arxiv.org/abs/2205.14135) over blocks of keys; included
 * after common.inl. A row is one query head of one position. kAttendRows rows are processed together, so that each key or
 * value is converted to float once for all of them. The lanes of a register are keys for the scores and dimensions for the
 * sums. */
namespace {

#ifndef EK_ATTEND_ROWS
#define EK_ATTEND_ROWS 4
#endif
/* Chosen so that the sums of a tile (kAttendRows * 16 floats), the keys or values, and a broadcast fit into the registers:
 * 6 rows with the 32 registers of 4 floats of NEON and the 16 of 8 of AVX2, 12 rows with the 32 of 16 of AVX-512. */
constexpr int kAttendRows = EK_ATTEND_ROWS;
/* Up to this many rows (two tiles) read keys and values as they are stored: one token with up to 8 query heads per group. */
constexpr int kDecodeRows = 2 * kAttendRows;
constexpr int kKeyBlock = kKvBlock;
constexpr int kVecs = kKeyLanes / kLanes;
constexpr float kLowest = -1e30f;

struct AttendScratch {
  float *keys;            /* (kKeyBlock / 16, head_dim, 16), as float */
  float *values;          /* (kKeyBlock, head_dim), as float */
  float *q, *sum;         /* (rows, head_dim) */
  float *largest, *total; /* (rows) */
  float *weights;         /* (kAttendRows, kKeyBlock) */
  int16_t *whole_q;       /* (kDecodeRows, head_dim): q is whole_q * q_scales; this and the rest are used with EK_PAIRS */
  float *q_scales;        /* (kDecodeRows) */
  int16_t *whole_weights; /* (kAttendRows, kKeyBlock) */
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
  s.total = take(at, rows);
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

/* Convert n numbers (a multiple of 16) to float. The scales of int8 are left out: scores and weights are multiplied by
 * them instead. */
template <typename T>
inline void convert(const T *from, int64_t n, float *to) {
  for (int64_t i = 0; i < n; i += kLanes) store(load(from + i), to + i);
}

/* Prefetch the cache line that is one block after `at`. The arithmetic on a block takes long enough for the next one to
 * arrive from memory if its lines are requested one at a time; requesting a whole block at once would fill the line fill
 * buffers and stall the loads that follow. A prefetch does not fault, so the address need not be valid. */
template <typename T>
EK_INLINE void prefetch_next(const T *at, int head_dim) {
  const size_t block = sizeof(T) * static_cast<size_t>(kKeyBlock * head_dim);
  __builtin_prefetch(reinterpret_cast<const char *>(reinterpret_cast<uintptr_t>(at) + block), 0, 2);
}

/* score[r, t] = sum over d of q[r, d] * key[d, t] for 16 keys. */
template <int kRows, bool kAhead, typename T> /* kAhead: prefetch the next block */
inline void score_tile(const float *q, const T *key, int head_dim, float *score) {
  Vec sum[kRows][kVecs] = {};
  for (int d = 0; d < head_dim; ++d) {
    Vec k[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) k[v] = load(key + d * kKeyLanes + v * kLanes);
    if (kAhead) prefetch_next(key + d * kKeyLanes, head_dim);
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
    for (int v = 0; v < kVecs; ++v) store(sum[r][v], score + r * kKeyBlock + v * kLanes);
}

/* sum[r, d] = sum[r, d] * shrink[r] + sum over t of weight[r, t] * value[t, d]. */
template <int kRows, bool kAhead, typename T>
inline void value_tile(const float *weight, const T *value, int count, int head_dim, const float *shrink, float *sums) {
  for (int at = 0; at < head_dim; at += kKeyLanes) {
    Vec sum[kRows][kVecs];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) sum[r][v] = load(sums + r * head_dim + at + v * kLanes) * shrink[r];
    for (int t = 0; t < count; ++t) {
      Vec x[kVecs];
#pragma GCC unroll 16
      for (int v = 0; v < kVecs; ++v) x[v] = load(value + t * head_dim + at + v * kLanes);
      if (kAhead) prefetch_next(value + t * head_dim + at, head_dim);
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

/* Convert the scores (kKeyBlock) of a row to softmax weights; the row sees the first `seen` keys. Returns the factor by
 * which its earlier sums shrink. */
inline float soften(float *score, int seen, const float *key_scales, const float *value_scales, float *largest, float *total) {
  IntVec lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  Vec most = Vec{} + *largest;
  for (int t = 0; t < kKeyBlock; t += kLanes) {
    Vec x = load(score + t);
    if (key_scales) x *= load(key_scales + t);
    x = lane + t < seen ? x : Vec{} + kLowest;
    store(x, score + t);
    most = larger(most, x);
  }
  const float peak = largest_lane(most);
  Vec added = {};
  for (int t = 0; t < kKeyBlock; t += kLanes) {
    Vec weight = exponential(load(score + t) - peak);
    weight = lane + t < seen ? weight : Vec{};
    added += weight;
    if (value_scales) weight *= load(value_scales + t);
    store(weight, score + t);
  }
  const float shrink = peak == *largest ? 1.0f : exponential(Vec{} + (*largest - peak))[0];
  *total = *total * shrink + add_lanes(added);
  *largest = peak;
  return shrink;
}

#ifdef EK_PAIRS
/* Decode with an int8 cache in integer arithmetic. Queries and weights are rounded to 16 bits, 256 times finer than the
 * int8 keys and values, and one instruction multiplies and adds two dimensions of a key, or two positions of values. No sum
 * overflows: 256 * 127 * 32767 < 2^31. A kernel file that defines EK_PAIRS provides
 *
 *   PairVec                     a register of int32
 *   pair_lanes(a, b)            kLanes bytes of a and of b, interleaved, as int16: a[0], b[0], a[1], b[1], ...
 *   add_pairs(sum, lanes, two)  sum + lanes times the two int16 in `two`, adding neighbours
 *   pair_sums(sum)              sum as float */
constexpr float kWhole = 32767.0f;

inline int32_t two_at(const int16_t *at) {
  int32_t two;
  std::memcpy(&two, at, sizeof two);
  return two;
}

/* Round n numbers (a multiple of 16) to int16; returns their scale. */
inline float round_whole(const float *x, int64_t n, int16_t *to) {
  Vec size = {};
  for (int64_t i = 0; i < n; i += kLanes) size = larger(size, larger(load(x + i), -load(x + i)));
  const float most = largest_lane(size), inverse = most > 1e-30f ? kWhole / most : 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = x[i] * inverse;
    to[i] = static_cast<int16_t>(scaled + (scaled < 0.0f ? -0.5f : 0.5f));
  }
  return most / kWhole;
}

template <int kRows>
inline void score_pairs(const int16_t *q, const float *scales, const int8_t *key, int head_dim, float *score) {
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
    for (int v = 0; v < kVecs; ++v) store((Vec)pair_sums(sum[r][v]) * scales[r], score + r * kKeyBlock + v * kLanes);
}

/* An odd count reads one more row of values: the cache has whole blocks, and the weights from `count` on are zero. */
template <int kRows>
inline void value_pairs(const int16_t *weight, const float *scales, const int8_t *value, int count, int head_dim,
                        const float *shrink, float *sums) {
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
        store(load(to) * shrink[r] + (Vec)pair_sums(sum[r][v]) * scales[r], to);
      }
  }
}
#endif

/* kRows rows from `row` on with the keys and values of a block of `count` positions that starts at position `at`. */
template <int kRows, typename T>
void attend_tile(const AttentionJob &job, const AttendScratch &s, const T *keys, const T *values, int64_t row, int64_t at, int count) {
  float shrink[kRows];
  const int head_dim = job.head_dim;
  for (int part = 0; part * kKeyLanes < count; ++part) {
    const T *key = keys + part * kKeyLanes * head_dim;
#ifdef EK_PAIRS
    if constexpr (sizeof(T) == 1)
      score_pairs<kRows>(s.whole_q + row * head_dim, s.q_scales + row, key, head_dim, s.weights + part * kKeyLanes);
    else
#endif
      score_tile<kRows, sizeof(T) < 4>(s.q + row * head_dim, key, head_dim, s.weights + part * kKeyLanes);
  }
  for (int r = 0; r < kRows; ++r) {
    const int64_t limit = job.position + (row + r) / job.group + 1 - at;
    const int seen = static_cast<int>(limit < 0 ? 0 : limit < count ? limit : count);
    const bool scaled = job.type == KvType::kInt8;
    shrink[r] = soften(s.weights + r * kKeyBlock, seen, scaled ? job.keys.scales + at : nullptr,
                       scaled ? job.values.scales + at : nullptr, s.largest + row + r, s.total + row + r);
  }
#ifdef EK_PAIRS
  if constexpr (sizeof(T) == 1) {
    float scales[kRows];
    for (int r = 0; r < kRows; ++r)
      scales[r] = round_whole(s.weights + r * kKeyBlock, kKeyBlock, s.whole_weights + r * kKeyBlock);
    value_pairs<kRows>(s.whole_weights, scales, values, count, head_dim, shrink, s.sum + row * head_dim);
  } else
#endif
    value_tile<kRows, sizeof(T) < 4>(s.weights, values, count, head_dim, shrink, s.sum + row * head_dim);
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
  const float scale = 1.0f / std::sqrt(static_cast<float>(job.head_dim));
  for (int64_t row = 0; row < rows; ++row) {
    const float *q = job.q + row / job.group * job.q_stride + row % job.group * job.head_dim;
    for (int i = 0; i < job.head_dim; ++i) {
      s.q[row * job.head_dim + i] = q[i] * scale;
      s.sum[row * job.head_dim + i] = 0.0f;
    }
    s.largest[row] = kLowest;
    s.total[row] = 0.0f;
#ifdef EK_PAIRS
    if (row < kDecodeRows) s.q_scales[row] = round_whole(s.q + row * job.head_dim, job.head_dim, s.whole_q + row * job.head_dim);
#endif
  }
}

inline void finish_rows(const AttentionJob &job, const AttendScratch &s, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) {
    float *y = job.y + row / job.group * job.y_stride + row % job.group * job.head_dim;
    const float share = job.total ? 1.0f : 1.0f / s.total[row];
    for (int i = 0; i < job.head_dim; ++i) y[i] = s.sum[row * job.head_dim + i] * share;
    if (!job.total) continue;
    job.largest[row] = s.largest[row];
    job.total[row] = s.total[row];
  }
}

template <typename T>
inline void attend_blocks(const AttentionJob &job, const AttendScratch &s, int64_t rows) {
  const T *keys = static_cast<const T *>(job.keys.rows), *values = static_cast<const T *>(job.values.rows);
  const int64_t furthest = job.position + job.m < job.end ? job.position + job.m : job.end;
  for (int64_t at = job.begin; at < furthest; at += kKeyBlock) {
    const int64_t left = furthest - at;
    const int count = static_cast<int>(left < kKeyBlock ? left : kKeyBlock);
    const T *key = keys + at * job.head_dim, *value = values + at * job.head_dim;
    if (rows <= kDecodeRows) { /* decode: each number is used once or twice, so it is converted when it is used */
      for (int64_t row = 0; row < rows; row += kAttendRows) {
        const int64_t some = rows - row < kAttendRows ? rows - row : kAttendRows;
        attend_rows<kAttendRows>(job, s, key, value, row, static_cast<int>(some), at, count);
      }
      continue;
    }
    convert(key, (count + kKeyLanes - 1) / kKeyLanes * kKeyLanes * job.head_dim, s.keys);
    convert(value, count * job.head_dim, s.values);
    /* Rows of positions before `at` see none of these keys. */
    for (int64_t row = at > job.position ? (at - job.position) * job.group : 0; row < rows; row += kAttendRows) {
      const int64_t some = rows - row < kAttendRows ? rows - row : kAttendRows;
      attend_rows<kAttendRows, float>(job, s, s.keys, s.values, row, static_cast<int>(some), at, count);
    }
  }
}

void attend(const AttentionJob &job, uint8_t *scratch) {
  const int64_t rows = job.m * job.group;
  const AttendScratch s = split_scratch(&scratch, job.head_dim, rows);
  start_rows(job, s, rows);
  if (job.type == KvType::kInt8)
    attend_blocks<int8_t>(job, s, rows);
  else
    attend_blocks<uint16_t>(job, s, rows);
  finish_rows(job, s, rows);
}

}  // namespace
