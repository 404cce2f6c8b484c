/* Attention, as FlashAttention's running softmax (https://arxiv.org/abs/2205.14135) over blocks of keys; included after
 * common.inl. Rows, a query head of one position each, are worked on kAttendRows at a time, so that a key or value that was
 * converted to float once serves them all; the lanes are keys for the scores and dimensions for the sums. */
namespace {

#ifndef EK_ATTEND_ROWS
#define EK_ATTEND_ROWS 4
#endif
/* A tile's sums, a register of keys or values and a broadcast fill the registers: 6 * 16 floats of NEON's 32 registers of 4
 * and of AVX2's 16 of 8, 12 * 16 of AVX-512's 32 of 16. */
constexpr int kAttendRows = EK_ATTEND_ROWS;
constexpr int kKeyBlock = 2 * kKeyLanes; /* as float, keys and values take 16 KB each at head_dim 128: an L1 */
constexpr int kVecs = kKeyLanes / kLanes;
constexpr float kLowest = -1e30f;

struct AttendScratch {
  float *keys;            /* (kKeyBlock / 16, head_dim, 16) */
  float *values;          /* (kKeyBlock, head_dim) */
  float *q, *sum;         /* (rows, head_dim) */
  float *largest, *total; /* (rows) */
  float *weights;         /* (kAttendRows, kKeyBlock) */
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
  return s;
}

size_t attend_scratch(int head_dim, int64_t rows) {
  uint8_t *const start = reinterpret_cast<uint8_t *>(uintptr_t{64}); /* only counted from */
  uint8_t *end = start;
  split_scratch(&end, head_dim, rows);
  return static_cast<size_t>(end - start);
}

/* n numbers from `first` on; int8 without their scales, which scores and weights are multiplied with instead. */
inline void load_rows(const KvRows &from, KvType type, int64_t first, int64_t n, float *to) {
  if (type == KvType::kInt8)
    load_bytes(static_cast<const int8_t *>(from.rows) + first, n, to);
  else
    load_halves(static_cast<const uint16_t *>(from.rows) + first, n, to);
}

/* score[r, t] = sum over d of q[r, d] * key[d, t] for 16 keys. */
template <int kRows>
inline void score_tile(const float *q, const float *key, int head_dim, float *score) {
  Vec sum[kRows][kVecs] = {};
  for (int d = 0; d < head_dim; ++d) {
    Vec k[kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) k[v] = load(key + d * kKeyLanes + v * kLanes);
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
template <int kRows>
inline void value_tile(const float *weight, const float *value, int count, int head_dim, const float *shrink, float *sums) {
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

/* A row's scores (kKeyBlock), of which it sees `seen`, become weights; returns what its sums so far shrink by. */
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
  const float shrink = exponential(Vec{} + (*largest - peak))[0];
  *total = *total * shrink + add_lanes(added);
  *largest = peak;
  return shrink;
}

template <int kRows>
void attend_tile(const AttentionJob &job, const AttendScratch &s, int64_t row, int64_t at, int count) {
  float shrink[kRows];
  const int head_dim = job.head_dim;
  for (int part = 0; part * kKeyLanes < count; ++part)
    score_tile<kRows>(s.q + row * head_dim, s.keys + part * kKeyLanes * head_dim, head_dim, s.weights + part * kKeyLanes);
  for (int r = 0; r < kRows; ++r) {
    const int64_t limit = job.position + (row + r) / job.group + 1 - at;
    const int seen = static_cast<int>(limit < 0 ? 0 : limit < count ? limit : count);
    const bool scaled = job.type == KvType::kInt8;
    shrink[r] = soften(s.weights + r * kKeyBlock, seen, scaled ? job.keys.scales + at : nullptr,
                       scaled ? job.values.scales + at : nullptr, s.largest + row + r, s.total + row + r);
  }
  value_tile<kRows>(s.weights, s.values, count, head_dim, shrink, s.sum + row * head_dim);
}

/* attend_tile for `rows` rows, at most kRows. */
template <int kRows>
inline void attend_rows(const AttentionJob &job, const AttendScratch &s, int64_t row, int rows, int64_t at, int count) {
  if constexpr (kRows > 1)
    if (rows < kRows) return attend_rows<kRows - 1>(job, s, row, rows, at, count);
  attend_tile<kRows>(job, s, row, at, count);
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

void attend(const AttentionJob &job, uint8_t *scratch) {
  const int64_t rows = job.m * job.group;
  const AttendScratch s = split_scratch(&scratch, job.head_dim, rows);
  start_rows(job, s, rows);
  const int64_t furthest = job.position + job.m < job.end ? job.position + job.m : job.end;
  for (int64_t at = job.begin; at < furthest; at += kKeyBlock) {
    const int count = static_cast<int>(furthest - at < kKeyBlock ? furthest - at : kKeyBlock);
    const int64_t whole = (count + kKeyLanes - 1) / kKeyLanes * kKeyLanes;
    load_rows(job.keys, job.type, at * job.head_dim, whole * job.head_dim, s.keys);
    load_rows(job.values, job.type, at * job.head_dim, count * job.head_dim, s.values);
    /* Rows of positions before `at` see none of these keys. */
    for (int64_t row = at > job.position ? (at - job.position) * job.group : 0; row < rows; row += kAttendRows) {
      const int64_t left = rows - row;
      attend_rows<kAttendRows>(job, s, row, static_cast<int>(left < kAttendRows ? left : kAttendRows), at, count);
    }
  }
  finish_rows(job, s, rows);
}

}  // namespace
