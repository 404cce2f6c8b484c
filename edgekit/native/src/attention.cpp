#include "attention.h"

#include <algorithm>
#include <cinttypes>
#include <vector>

#include "hadamard.h"
#include "topology.h"

namespace ek {
namespace {

constexpr int64_t kAttentionRows = 192; /* rows of a task; in float and with their sums, 192 KB at head_dim 128 */
constexpr int64_t kMostHeads = 1024, kMostTokens = 1 << 24; /* the limits of model.cpp and product.cpp */

}  // namespace

void rotate_and_store(ThreadPool &pool, const Kernels &kernels, KvCache &cache, const AttentionRows &rows, const float *cos,
                      const float *sin) {
  const int64_t half = rows.head_dim / 2;
  pool.run(rows.m, [&](int64_t r, int) { rotate_and_store(kernels, cache, rows, r, cos + r * half, sin + r * half); });
}

void rotate_and_store(const Kernels &kernels, KvCache &cache, const AttentionRows &rows, int64_t r, const float *cos,
                      const float *sin) {
  const int64_t dim = rows.head_dim, heads = rows.heads, kv_heads = rows.kv_heads;
  float *row = rows.qkv + r * rows.stride();
  for (int64_t h = 0; h < heads + kv_heads; ++h) {
    const float *norm = h < heads ? rows.q_norm : rows.k_norm;
    if (norm) kernels.rms_norm(row + h * dim, norm, dim, rows.epsilon, row + h * dim);
    kernels.rotate(row + h * dim, cos, sin, dim / 2);
    if (cache.type() == KvType::kInt8) hadamard(row + h * dim, dim);
  }
  for (int64_t h = 0; h < kv_heads; ++h)
    cache.store(kernels, rows.layer, h, rows.position + r, row + (heads + h) * dim, row + (heads + kv_heads + h) * dim);
}

AttentionJob attention_job(const KvCache &cache, const AttentionRows &rows, int64_t head, int64_t first, int64_t count) {
  const int64_t dim = rows.head_dim, group = rows.group(), width = rows.heads * dim, position = rows.position + first;
  AttentionJob job;
  job.q = rows.qkv + first * rows.stride() + head * group * dim;
  job.q_stride = rows.stride();
  job.m = count;
  job.group = group;
  job.type = cache.type();
  job.keys = cache.keys(rows.layer, head);
  job.values = cache.values(rows.layer, head);
  job.begin = 0;
  job.end = position + count;
  job.position = position;
  job.head_dim = static_cast<int>(dim);
  job.y = rows.y + first * width + head * group * dim;
  job.y_stride = width;
  job.largest = job.total = nullptr;
  return job;
}

void attend(ThreadPool &pool, const Kernels &kernels, const KvCache &cache, const AttentionRows &rows,
            const std::function<uint8_t *(int)> &scratch) {
  const int64_t tile = std::max<int64_t>(kPackRows, kAttentionRows / rows.group()), tiles = (rows.m + tile - 1) / tile;
  pool.run(tiles * rows.kv_heads, [&](int64_t task, int thread) {
    /* The last rows see the most positions. They start first, so that all threads finish at about the same time. */
    const int64_t first = (tiles - 1 - task / rows.kv_heads) * tile;
    kernels.attend(attention_job(cache, rows, task % rows.kv_heads, first, std::min(rows.m - first, tile)), scratch(thread));
  });
}

size_t attention_scratch(const Kernels &kernels, int64_t head_dim, int64_t group) {
  return kernels.attend_scratch(static_cast<int>(head_dim), std::max(kAttentionRows, kPackRows * group));
}

void attend_text(const Kernels &kernels, const float *qkv, int64_t tokens, int64_t heads, int64_t kv_heads,
                 int64_t head_dim, const float *cos, const float *sin, int threads, float *y) {
  if (tokens < 1 || tokens > kMostTokens)
    fail(EK_BAD_ARGUMENT, "cannot compute the attention of %" PRId64 " tokens; allowed: 1 to %" PRId64, tokens, kMostTokens);
  if (heads < 1 || heads > kMostHeads || kv_heads < 1 || heads % kv_heads)
    fail(EK_BAD_ARGUMENT, "cannot compute attention with %" PRId64 " heads and %" PRId64
         " key-value heads; allowed: a multiple of the key-value heads, at most %" PRId64, heads, kv_heads, kMostHeads);
  if (head_dim < 16 || head_dim % 16 || head_dim > kMaxHeadDim)
    fail(EK_BAD_ARGUMENT,
         "cannot compute attention with a head_dim of %" PRId64 "; allowed: multiples of 16 up to %d", head_dim, kMaxHeadDim);
  ThreadPool pool(threads, worker_cpus(threads));
  KvCache cache(1, kv_heads, head_dim, tokens, KvType::kFloat16);
  const AttentionRows shape{heads, kv_heads, head_dim, 0, 0, tokens, nullptr, y};
  const Buffer<float> rotated(static_cast<size_t>(tokens * shape.stride()));
  std::copy_n(qkv, tokens * shape.stride(), rotated.get());
  AttentionRows rows = shape;
  rows.qkv = rotated.get();
  std::vector<Buffer<uint8_t>> scratch;
  for (int t = 0; t < pool.threads(); ++t) scratch.emplace_back(attention_scratch(kernels, head_dim, rows.group()));
  rotate_and_store(pool, kernels, cache, rows, cos, sin);
  attend(pool, kernels, cache, rows, [&](int thread) { return scratch[static_cast<size_t>(thread)].get(); });
}

}  // namespace ek
