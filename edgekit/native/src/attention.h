/* Attention of consecutive positions over a KV cache: rotation, storing, and the division into tasks. Used by sessions and by
 * ek_attend, which has no model. */
#ifndef EDGEKIT_SRC_ATTENTION_H
#define EDGEKIT_SRC_ATTENTION_H

#include <cstddef>
#include <cstdint>
#include <functional>

#include "kv_cache.h"
#include "team.h"

namespace ek {

/* m consecutive positions of one layer from `position` on; their projections are the rows of qkv. */
struct AttentionRows {
  int64_t heads, kv_heads, head_dim, layer, position, m;
  float *qkv; /* (m, (heads + 2 * kv_heads) * head_dim) */
  float *y;   /* (m, heads * head_dim) */
  const float *q_norm = nullptr, *k_norm = nullptr; /* (head_dim): weights of an RMS norm of each head, or none */
  float epsilon = 0.0f;                             /* of these norms */

  int64_t group() const { return heads / kv_heads; }
  int64_t stride() const { return (heads + 2 * kv_heads) * head_dim; }
};

/* Normalize q and k if the rows have norms, rotate them in place (RoPE, and with an int8 cache the Hadamard transform of
 * hadamard.h), and store k and v in the cache. cos and sin: (m, head_dim / 2). */
void rotate_and_store(Team &team, const Kernels &kernels, KvCache &cache, const AttentionRows &rows, const float *cos,
                      const float *sin);

/* The same for key-value head `head` and its query heads only, in the calling thread. */
void rotate_and_store(const Kernels &kernels, KvCache &cache, const AttentionRows &rows, int64_t head, const float *cos,
                      const float *sin);

/* The job for the query heads of key-value head `head` and `count` rows from `first` on, over all earlier positions. */
AttentionJob attention_job(const KvCache &cache, const AttentionRows &rows, int64_t head, int64_t first, int64_t count);

/* Compute all heads of all rows. scratch(thread) returns attention_scratch bytes, aligned to 64. */
void attend(Team &team, const Kernels &kernels, const KvCache &cache, const AttentionRows &rows,
            const std::function<uint8_t *(int)> &scratch);
size_t attention_scratch(const Kernels &kernels, int64_t head_dim, int64_t group);

/* Implements ek_attend (edgekit_tools.h). Throws Error: EK_BAD_ARGUMENT, EK_NO_MEMORY. */
void attend_text(const Kernels &kernels, const float *qkv, int64_t tokens, int64_t heads, int64_t kv_heads,
                 int64_t head_dim, const float *cos, const float *sin, int threads, float *y);

}  // namespace ek

#endif
