/* What every kernel file shares in source, not in object code: included by each, compiled with each one's flags.
 *
 * Everything here is static and written for the compiler's vectorizer: independent sums run in 16 lanes (one AVX-512
 * register of floats, two of AVX2, four of NEON). The including file may define EK_HALF_CONVERSION first and give
 * load_halves and store_halves of its own. */
#include <cmath>
#include <cstring>

#include "kernels.h"

namespace {

using namespace ek;

constexpr int kLanes = 16;

/* Sixteen floats, which the compiler keeps in one register or several, whatever the ISA has. Never an argument of a
 * function that is not inlined: the calling convention differs between ISAs. */
typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t IntVec __attribute__((vector_size(kLanes * sizeof(int32_t))));
#define EK_INLINE inline __attribute__((always_inline))

EK_INLINE Vec load(const float *x) {
  Vec v;
  std::memcpy(&v, x, sizeof v);
  return v;
}
EK_INLINE void store(Vec v, float *x) { std::memcpy(x, &v, sizeof v); }
EK_INLINE Vec larger(Vec a, Vec b) { return a > b ? a : b; }

inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  uint32_t bits = static_cast<uint32_t>(h & 0x7fffu) << 13;
  float magnitude;
  std::memcpy(&magnitude, &bits, 4);
  magnitude *= 5.192296858534828e+33f; /* 2^112: the exponent's bias from 15 to 127, denormals included */
  std::memcpy(&bits, &magnitude, 4);
  if ((h & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;
  bits |= sign;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

inline uint16_t float_to_half(float f) { /* round to nearest even; beyond 65504: infinity */
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (bits < 0x38800000u) {
    float magnitude;
    std::memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    std::memcpy(&bits, &magnitude, 4);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  bits += 0xfffu + ((bits >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u) >> 13));
}

#ifndef EK_HALF_CONVERSION
inline void load_halves(const uint16_t *x, int64_t n, float *y) {
  for (int64_t i = 0; i < n; ++i) y[i] = half_to_float(x[i]);
}
inline void store_halves(const float *x, int64_t n, uint16_t *y) {
  for (int64_t i = 0; i < n; ++i) y[i] = float_to_half(x[i]);
}
#endif

#ifndef EK_ADD_LANES
EK_INLINE float add_lanes(Vec v) {
  float sum[kLanes];
  store(v, sum);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) sum[i] += sum[i + width];
  return sum[0];
}
#else
EK_INLINE float add_lanes(Vec v) { return EK_ADD_LANES(v); }
#endif

inline float dot(const float *a, const float *b, int64_t n) {
  Vec even = {}, odd = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    even += load(a + i) * load(b + i);
    odd += load(a + i + kLanes) * load(b + i + kLanes);
  }
  for (; i + kLanes <= n; i += kLanes) even += load(a + i) * load(b + i);
  float sum = add_lanes(even + odd);
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/* e^x for x <= 88, within 2 units in the last place: 2^n by the exponent's bits, e^r by its Taylor series, |r| <= ln2/2. */
EK_INLINE Vec exponential(Vec x) {
  x = larger(x, Vec{} - 87.0f);
  x = x < 88.0f ? x : Vec{} + 88.0f;
  const Vec n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts, the first exact in 10 bits */
  Vec p = r * (1.0f / 5040.0f) + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const IntVec bits = (__builtin_convertvector(n, IntVec) + 127) << 23;
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

inline float scale_at(const Matrix &w, int64_t i) {
  return w.half_scales ? half_to_float(static_cast<const uint16_t *>(w.scales)[i])
                       : static_cast<const float *>(w.scales)[i];
}

inline int zero_point_at(const Matrix &w, int64_t row, int64_t block) {
  if (!w.zero_points) return 1 << (w.bits - 1);
  if (w.bits == 8) return w.zero_points[row * w.blocks() + block];
  return w.zero_points[row * ((w.blocks() + 1) / 2) + block / 2] >> (block % 2 * 4) & 15;
}

/* Where a column stands in QuantizedRow::values. */
inline int64_t value_index(int64_t k, int bits) {
  if (bits == 8) return k;
  const int64_t chunk = k / kChunk * kChunk, column = k % kChunk;
  return chunk + column % 2 * (kChunk / 2) + column / 2;
}

void quantize_row(const float *x, int64_t k, int bits, int block, QuantizedRow row) {
  float group[kGroup];
  const int64_t groups = padded_k(k) / kGroup, per_block = block / kGroup, blocks = (k + block - 1) / block;
  for (int64_t b = 0; b < blocks; ++b) row.sums[b] = 0.0f;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t start = g * kGroup, count = k - start < 0 ? 0 : k - start < kGroup ? k - start : kGroup;
    for (int i = 0; i < kGroup; ++i) group[i] = 0.0f;
    if (count > 0) std::memcpy(group, x + start, sizeof(float) * static_cast<size_t>(count));
    float largest[kLanes] = {};
    for (int i = 0; i < kGroup; i += kLanes)
      for (int j = 0; j < kLanes; ++j) {
        const float magnitude = std::fabs(group[i + j]);
        largest[j] = magnitude > largest[j] ? magnitude : largest[j];
      }
    float most = 0.0f;
    for (int j = 0; j < kLanes; ++j) most = largest[j] > most ? largest[j] : most;
    const float scale = most / 127.0f, inverse = most > 1e-30f ? 127.0f / most : 0.0f;
    int8_t values[kGroup];
    int32_t sum = 0;
    for (int i = 0; i < kGroup; ++i) {
      const int32_t q = static_cast<int32_t>((group[i] * inverse + 12582912.0f) - 12582912.0f);
      values[i] = static_cast<int8_t>(q);
      sum += q;
    }
    row.scales[g] = scale;
    if (g / per_block < blocks) row.sums[g / per_block] += scale * static_cast<float>(sum);
    if (bits == 8) {
      std::memcpy(row.values + start, values, kGroup);
      continue;
    }
    int8_t *even = row.values + start / kChunk * kChunk + start % kChunk / 2, *odd = even + kChunk / 2;
    for (int i = 0; i < kGroup / 2; ++i) {
      even[i] = values[2 * i];
      odd[i] = values[2 * i + 1];
    }
  }
}

void rms_norm(const float *x, const float *weight, int64_t n, float epsilon, float *y) {
  const float scale = 1.0f / std::sqrt(dot(x, x, n) / static_cast<float>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

void silu_multiply(const float *gate, const float *up, int64_t n, float *y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec x = load(gate + i);
    store(x / (1.0f + exponential(-x)) * load(up + i), y + i);
  }
  if (i == n) return;
  float tail[2 * kLanes] = {};
  std::memcpy(tail, gate + i, sizeof(float) * static_cast<size_t>(n - i));
  std::memcpy(tail + kLanes, up + i, sizeof(float) * static_cast<size_t>(n - i));
  const Vec x = load(tail);
  store(x / (1.0f + exponential(-x)) * load(tail + kLanes), tail);
  std::memcpy(y + i, tail, sizeof(float) * static_cast<size_t>(n - i));
}

void rotate(float *x, const float *cos, const float *sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cos[i] - b * sin[i];
    x[half + i] = b * cos[i] + a * sin[i];
  }
}

void to_half(const float *x, int64_t n, uint16_t *y) { store_halves(x, n, y); }

/* Attention, as FlashAttention's running softmax (https://arxiv.org/abs/2205.14135) over blocks of keys. Two shapes of
 * work, two loops: many queries stand side by side in the lanes, so that nothing is summed across; the few of decoding
 * lie along the lanes with their dimensions, so that no lane is idle. */
constexpr int kMaxHeadDim = 256;
constexpr int kKeyBlock = 32; /* keys and values of a block, as float, take 32 KB at head_dim 128: half of an L1 */
constexpr int kFewQueries = 8;
constexpr float kLowest = -1e30f;

struct AttentionScratch {
  Vec q[kMaxHeadDim], sum[kMaxHeadDim]; /* many: [dimension], a lane a query; few: [query * head_dim / 16 + i] */
  float keys[kKeyBlock * kMaxHeadDim], values[kKeyBlock * kMaxHeadDim];
};

struct Head {
  const float *q;
  float *y;
  int64_t limit; /* positions it may see */
};

inline Head head_at(const AttentionJob &job, int64_t row) {
  const int64_t position = row / job.group, head = row % job.group;
  return {job.q + position * job.q_stride + head * job.head_dim, job.y + position * job.y_stride + head * job.head_dim,
          job.length - job.m + position + 1};
}

inline void load_block(const AttentionJob &job, int64_t at, int64_t count, AttentionScratch &scratch) {
  load_halves(job.keys + at * job.head_dim, count * job.head_dim, scratch.keys);
  load_halves(job.values + at * job.head_dim, count * job.head_dim, scratch.values);
}

/* Scores of a block's keys for 16 queries: score[t] = sum over d of q[d] * key[t, d]. Four keys at a time. */
inline void score_block(const AttentionScratch &scratch, int count, int head_dim, Vec *score) {
  for (int t = 0; t < count; t += 4) {
    const float *key = scratch.keys + t * head_dim;
    Vec a = {}, b = {}, c = {}, d = {};
    for (int i = 0; i < head_dim; ++i) {
      const Vec q = scratch.q[i];
      a += q * key[i];
      b += q * key[head_dim + i];
      c += q * key[2 * head_dim + i];
      d += q * key[3 * head_dim + i];
    }
    score[t] = a;
    score[t + 1] = b;
    score[t + 2] = c;
    score[t + 3] = d;
  }
}

/* sum[d] = sum[d] * shrink + sum over t of weight[t] * value[t, d]. Four dimensions at a time. */
inline void add_values(AttentionScratch &scratch, int count, int head_dim, const Vec *weight, Vec shrink) {
  for (int i = 0; i < head_dim; i += 4) {
    const float *value = scratch.values + i;
    Vec a = scratch.sum[i] * shrink, b = scratch.sum[i + 1] * shrink;
    Vec c = scratch.sum[i + 2] * shrink, d = scratch.sum[i + 3] * shrink;
    for (int t = 0; t < count; ++t, value += head_dim) {
      const Vec p = weight[t];
      a += p * value[0];
      b += p * value[1];
      c += p * value[2];
      d += p * value[3];
    }
    scratch.sum[i] = a;
    scratch.sum[i + 1] = b;
    scratch.sum[i + 2] = c;
    scratch.sum[i + 3] = d;
  }
}

/* Rows first .. first + count - 1, at most 16, one in each lane. */
inline void attend_many(const AttentionJob &job, int64_t first, int count, AttentionScratch &scratch) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(job.head_dim));
  IntVec limit = {};
  for (int lane = 0; lane < kLanes; ++lane) { /* lanes without a query repeat the last one */
    const Head head = head_at(job, first + (lane < count ? lane : count - 1));
    limit[lane] = static_cast<int32_t>(head.limit);
    for (int i = 0; i < job.head_dim; ++i) scratch.q[i][lane] = head.q[i] * scale;
  }
  for (int i = 0; i < job.head_dim; ++i) scratch.sum[i] = Vec{};
  const int64_t nearest = limit[0], furthest = limit[kLanes - 1];
  Vec largest = Vec{} + kLowest, total = {};
  Vec score[kKeyBlock];
  for (int64_t at = 0; at < furthest; at += kKeyBlock) {
    const int block = static_cast<int>(furthest - at < kKeyBlock ? furthest - at : kKeyBlock);
    load_block(job, at, block, scratch);
    score_block(scratch, block, job.head_dim, score);
    Vec most = largest;
    for (int t = 0; t < block; ++t) {
      if (at + t >= nearest) score[t] = limit > static_cast<int32_t>(at + t) ? score[t] : Vec{} + kLowest;
      most = larger(most, score[t]);
    }
    const Vec shrink = exponential(largest - most);
    largest = most;
    total *= shrink;
    for (int t = 0; t < block; ++t) {
      score[t] = exponential(score[t] - largest);
      total += score[t];
    }
    add_values(scratch, block, job.head_dim, score, shrink);
  }
  for (int i = 0; i < job.head_dim; ++i) scratch.sum[i] /= total;
  for (int lane = 0; lane < count; ++lane) {
    const Head head = head_at(job, first + lane);
    for (int i = 0; i < job.head_dim; ++i) head.y[i] = scratch.sum[i][lane];
  }
}

/* Rows first .. first + count - 1, at most 8, their dimensions along the lanes. */
inline void attend_few(const AttentionJob &job, int64_t first, int count, AttentionScratch &scratch) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(job.head_dim));
  const int wide = job.head_dim / kLanes;
  Head head[kFewQueries];
  float largest[kFewQueries], total[kFewQueries];
  for (int r = 0; r < count; ++r) {
    head[r] = head_at(job, first + r);
    largest[r] = kLowest;
    total[r] = 0.0f;
    for (int i = 0; i < wide; ++i) {
      scratch.q[r * wide + i] = load(head[r].q + i * kLanes) * scale;
      scratch.sum[r * wide + i] = Vec{};
    }
  }
  const int64_t furthest = head[count - 1].limit;
  for (int64_t at = 0; at < furthest; at += kKeyBlock) {
    const int block = static_cast<int>(furthest - at < kKeyBlock ? furthest - at : kKeyBlock);
    load_block(job, at, block, scratch);
    for (int r = 0; r < count; ++r) {
      const int64_t left = head[r].limit - at;
      const int seen = static_cast<int>(left < block ? left : block);
      float score[kKeyBlock];
      float most = largest[r];
      for (int t = 0; t < seen; ++t) {
        Vec sum = {};
        for (int i = 0; i < wide; ++i) sum += scratch.q[r * wide + i] * load(scratch.keys + t * job.head_dim + i * kLanes);
        score[t] = add_lanes(sum);
        most = score[t] > most ? score[t] : most;
      }
      for (int t = seen < 0 ? 0 : seen; t < kKeyBlock; ++t) score[t] = kLowest;
      const float shrink = exponential(Vec{} + (largest[r] - most))[0];
      largest[r] = most;
      Vec added = {};
      for (int t = 0; t < kKeyBlock; t += kLanes) {
        const Vec weight = exponential(load(score + t) - most);
        added += weight;
        store(weight, score + t);
      }
      total[r] = total[r] * shrink + add_lanes(added);
      for (int i = 0; i < wide; ++i) {
        Vec even = scratch.sum[r * wide + i] * shrink, odd = {};
        const float *value = scratch.values + i * kLanes;
        int t = 0;
        for (; t + 2 <= seen; t += 2) {
          even += score[t] * load(value + t * job.head_dim);
          odd += score[t + 1] * load(value + (t + 1) * job.head_dim);
        }
        if (t < seen) even += score[t] * load(value + t * job.head_dim);
        scratch.sum[r * wide + i] = even + odd;
      }
    }
  }
  for (int r = 0; r < count; ++r)
    for (int i = 0; i < wide; ++i) store(scratch.sum[r * wide + i] / total[r], head[r].y + i * kLanes);
}

void attend(const AttentionJob &job) {
  static thread_local AttentionScratch scratch;
  const int64_t rows = job.m * job.group;
  for (int64_t first = 0; first < rows;) {
    const int64_t left = rows - first;
    const int count = static_cast<int>(left < kLanes ? left : kLanes);
    if (count <= kFewQueries && count * job.head_dim <= kLanes * kMaxHeadDim)
      attend_few(job, first, count, scratch);
    else
      attend_many(job, first, count, scratch);
    first += count;
  }
}

}  // namespace
