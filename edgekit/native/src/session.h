/* One sequence over a shared model: its KV cache, its threads, its scratch. */
#ifndef EDGEKIT_SRC_SESSION_H
#define EDGEKIT_SRC_SESSION_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention.h"
#include "kv_cache.h"
#include "model.h"
#include "thread_pool.h"

namespace ek {

constexpr int64_t kMostTogether = 8; /* sequences in a step: as many rows as decoding takes */

class Session {
 public:
  /* context: positions the cache holds, at most the model's; kernels: this machine's. Throws Error. */
  Session(std::shared_ptr<const Model> model, const Kernels &kernels, int64_t context, int threads, KvType type);

  /* Append n ids. logits: (1, vocab) of the last position, or (n, vocab) when `all`. On an error the cache is as before. */
  void evaluate(const int32_t *ids, int64_t n, bool all, float *logits);
  void rewind(int64_t length);

  /* Append an id to each of `count` sequences of this model, 1 to kMostTogether, all computed together: weights are read
   * once. This session's threads and memory do the work; it may be one of them. logits: (count, vocab). On an error all
   * are as before. */
  void step(Session *const *sequences, int64_t count, const int32_t *ids, float *logits);

  /* Become what `other`, of the same model, is; this one's context must hold its positions. */
  void copy(const Session &other);
  /* Write the sequence to a file; read one that a session of this model and cache type wrote. */
  void save(const std::string &path) const;
  void load(const std::string &path);

  int64_t position() const { return static_cast<int64_t>(ids_.size()); }
  int64_t context() const { return cache_.context(); }
  int threads() const { return pool_.threads(); }
  int64_t cache_bytes() const { return static_cast<int64_t>(cache_.bytes()); }
  const std::vector<int32_t> &ids() const { return ids_; }
  const Model &model() const { return *model_; }
  const Kernels &kernels() const { return kernels_; }

 private:
  /* m positions from position() on; the last `kept` of them give logits (kept, vocab). */
  void evaluate_chunk(const int32_t *ids, int64_t m, int64_t kept, float *logits);
  void embed(const int32_t *ids, int64_t m);
  void check_step(Session *const *sequences, int64_t count, const int32_t *ids) const;
  void attention(const Layer &layer, int64_t index, int64_t m);
  void attention_of_each(const Layer &layer, int64_t index, Session *const *sequences, int64_t m);
  void mlp(const Layer &layer, int64_t first, int64_t m);
  void attend(int64_t index, int64_t m);
  void attend_in_parts(int64_t index, int64_t m, int64_t parts);
  AttentionRows attention_rows(int64_t index, int64_t m);

  /* Rows of activations in the form that products with w take: x (m, k) with `stride` between rows. */
  void prepare(const Matrix &w, const float *x, int64_t stride, int64_t m);
  /* The same of the rms norm of the residual stream's rows from `first` on. */
  void prepare_normed(const std::vector<float> &weight, const Matrix &w, int64_t first, int64_t m);
  /* y (m, w.n) = what was prepared times w, added to y with `add`. */
  void multiply(const Matrix &w, int64_t m, float *y, int64_t stride, bool add);
  void multiply_rows(const Matrix &w, int64_t m, int64_t first, int64_t last, float *y, int64_t stride, bool add, int thread);
  /* In the other set of prepared rows: silu(gate) * up of the rows that were prepared for gate_up. */
  void gate(const Layer &layer, int64_t m);

  /* Prepared rows: `few` for at most 8, else `packs`. Two sets, because gate() reads one and writes the other. */
  struct Rows {
    Buffer<int8_t> values;
    Buffer<float> scales, sums;
    std::vector<QuantizedRow> few;
    Buffer<uint8_t> packs;
  };
  void allocate_rows(Rows &rows, const std::vector<const Matrix *> &for_matrices, size_t packs);
  uint8_t *scratch(int thread) { return scratch_[static_cast<size_t>(thread)].get(); }

  std::shared_ptr<const Model> model_;
  const Kernels &kernels_;
  ThreadPool pool_;
  int64_t chunk_;
  KvCache cache_;
  std::vector<int32_t> ids_;
  Buffer<float> x_, qkv_, attended_, cos_, sin_;
  Buffer<float> parts_, part_totals_; /* of an attention cut into parts */
  Rows rows_, gated_;
  const Rows *prepared_ = &rows_;
  std::vector<Buffer<uint8_t>> scratch_; /* a thread's own */
  size_t product_scratch_;               /* what of it a product takes; the rest is gate()'s */
};

}  // namespace ek

#endif
