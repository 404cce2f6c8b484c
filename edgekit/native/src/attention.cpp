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

/* Row r of a key-value head and its query heads; cos and sin: (head_dim / 2). */
void rotate_and_store_row(const Kernels &kernels, KvCache &cache, const AttentionRows &rows, int64_t r, int64_t head,
                          const float *cos, const float *sin) {
  const int64_t dim = rows.head_dim, group = rows.group();
  float *row = rows.qkv + r * rows.stride(), *q = row + head * group * dim, *k = row + (rows.heads + head) * dim;
  const auto rotate = [&](float *x, const float *norm) {
    if (norm) kernels.rms_norm(x, norm, dim, rows.epsilon, x);
    kernels.rotate(x, cos, sin, dim / 2);
    if (cache.type() == KvType::kInt8) hadamard(x, dim);
  };
  for (int64_t i = 0; i < group; ++i) rotate(q + i * dim, rows.q_norm);
  rotate(k, rows.k_norm);
  cache.store(kernels, rows.layer, head, rows.position + r, k, k + rows.kv_heads * dim);
}

}  // namespace

void rotate_and_store(Team &team, const Kernels &kernels, KvCache &cache, const AttentionRows &rows, const float *cos,
                      const float *sin) {
  const int64_t half = rows.head_dim / 2;
  team.run(rows.m, [&](int64_t r, int) {
    for (int64_t head = 0; head < rows.kv_heads; ++head)
      rotate_and_store_row(kernels, cache, rows, r, head, cos + r * half, sin + r * half);
  });
}

void rotate_and_store(const Kernels &kernels, KvCache &cache, const AttentionRows &rows, int64_t head, const float *cos,
                      const float *sin) {
  const int64_t half = rows.head_dim / 2;
  for (int64_t r = 0; r < rows.m; ++r) rotate_and_store_row(kernels, cache, rows, r, head, cos + r * half, sin + r * half);
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

void attend(Team &team, const Kernels &kernels, const KvCache &cache, const AttentionRows &rows,
            const std::function<uint8_t *(int)> &scratch) {
  const int64_t tile = std::max<int64_t>(kPackRows, kAttentionRows / rows.group()), tiles = (rows.m + tile - 1) / tile;
  team.run(tiles * rows.kv_heads, [&](int64_t task, int thread) {
    /* Tiles of about the same size: a short one at the end would use the kernels of decoding, which round otherwise, and results
     * would depend on the pieces of a prompt. The last rows see the most positions. They start first, so that all threads finish at about the same time. */
    const int64_t index = tiles - 1 - task / rows.kv_heads;
    const int64_t first = index * rows.m / tiles, count = (index + 1) * rows.m / tiles - first;
    kernels.attend(attention_job(cache, rows, task % rows.kv_heads, first, count), scratch(thread));
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
  Team team(std::make_shared<ThreadPool>(threads, worker_cpus(threads)));
  KvCache cache(1, kv_heads, head_dim, tokens, KvType::kFloat16);
  const AttentionRows shape{heads, kv_heads, head_dim, 0, 0, tokens, nullptr, y};
  const Buffer<float> rotated(static_cast<size_t>(tokens * shape.stride()));
  std::copy_n(qkv, tokens * shape.stride(), rotated.get());
  AttentionRows rows = shape;
  rows.qkv = rotated.get();
  std::vector<Buffer<uint8_t>> scratch;
  for (int t = 0; t < team.threads(); ++t) scratch.emplace_back(attention_scratch(kernels, head_dim, rows.group()));
  rotate_and_store(team, kernels, cache, rows, cos, sin);
  attend(team, kernels, cache, rows, [&](int thread) { return scratch[static_cast<size_t>(thread)].get(); });
}

}  // namespace ek
