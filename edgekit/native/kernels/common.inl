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

inline float add_lanes(const float *lane) {
  float sum[kLanes];
  std::memcpy(sum, lane, sizeof sum);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) sum[i] += sum[i + width];
  return sum[0];
}

inline float dot(const float *a, const float *b, int64_t n) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] += a[i + j] * b[i + j];
  float sum = add_lanes(lanes);
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/* e^x for x <= 88, within 2 units in the last place: 2^n by the exponent's bits, e^r by its Taylor series, |r| <= ln2/2. */
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts, the first exact in 10 bits */
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
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
  for (int64_t i = 0; i < n; ++i) y[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}

void rotate(float *x, const float *cos, const float *sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cos[i] - b * sin[i];
    x[half + i] = b * cos[i] + a * sin[i];
  }
}

void to_half(const float *x, int64_t n, uint16_t *y) { store_halves(x, n, y); }

constexpr int kMaxHeadDim = 256;
constexpr int kKeyBlock = 32;  /* keys and values of a block, as float, take 32 KB at head_dim 128: half of an L1 */
constexpr int kQueryRows = 16; /* queries that share a converted block */

struct Query {
  float vector[kMaxHeadDim], sum[kMaxHeadDim];
  float largest, weight;
  int64_t limit; /* positions it may see */
};

/* One block of keys and values for one query: the running softmax of FlashAttention, https://arxiv.org/abs/2205.14135. */
inline void attend_block(Query &query, const float *keys, const float *values, int count, int head_dim) {
  float score[kKeyBlock];
  float largest = query.largest;
  for (int t = 0; t < count; ++t) {
    score[t] = dot(query.vector, keys + t * head_dim, head_dim);
    largest = score[t] > largest ? score[t] : largest;
  }
  const float shrink = exponential(query.largest - largest);
  query.largest = largest;
  for (int t = 0; t < count; ++t) score[t] = exponential(score[t] - largest);
  query.weight *= shrink;
  for (int i = 0; i < head_dim; ++i) query.sum[i] *= shrink;
  for (int t = 0; t < count; ++t) {
    query.weight += score[t];
    const float *value = values + t * head_dim;
    for (int i = 0; i < head_dim; ++i) query.sum[i] += score[t] * value[i];
  }
}

void attend(const AttentionJob &job) {
  static thread_local Query queries[kQueryRows];
  static thread_local float keys[kKeyBlock * kMaxHeadDim], values[kKeyBlock * kMaxHeadDim];
  const float scale = 1.0f / std::sqrt(static_cast<float>(job.head_dim));
  const int64_t rows = job.m * job.group;
  for (int64_t first = 0; first < rows; first += kQueryRows) {
    const int count = static_cast<int>(rows - first < kQueryRows ? rows - first : kQueryRows);
    int64_t furthest = 0;
    for (int r = 0; r < count; ++r) {
      const int64_t position = (first + r) / job.group, head = (first + r) % job.group;
      const float *q = job.q + position * job.q_stride + head * job.head_dim;
      Query &query = queries[r];
      for (int i = 0; i < job.head_dim; ++i) {
        query.vector[i] = q[i] * scale;
        query.sum[i] = 0.0f;
      }
      query.largest = -1e30f;
      query.weight = 0.0f;
      query.limit = job.length - job.m + position + 1;
      furthest = query.limit;
    }
    for (int64_t t = 0; t < furthest; t += kKeyBlock) {
      const int64_t block = furthest - t < kKeyBlock ? furthest - t : kKeyBlock;
      load_halves(job.keys + t * job.head_dim, block * job.head_dim, keys);
      load_halves(job.values + t * job.head_dim, block * job.head_dim, values);
      for (int r = 0; r < count; ++r) {
        const int64_t seen = queries[r].limit - t < block ? queries[r].limit - t : block;
        if (seen > 0) attend_block(queries[r], keys, values, static_cast<int>(seen), job.head_dim);
      }
    }
    for (int r = 0; r < count; ++r) {
      const int64_t position = (first + r) / job.group, head = (first + r) % job.group;
      float *y = job.y + position * job.y_stride + head * job.head_dim;
      for (int i = 0; i < job.head_dim; ++i) y[i] = queries[r].sum[i] / queries[r].weight;
    }
  }
}

}  // namespace
