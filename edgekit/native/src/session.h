/* One sequence over a shared model: its KV cache, its threads, its scratch. */
#ifndef EDGEKIT_SRC_SESSION_H
#define EDGEKIT_SRC_SESSION_H

#include <cstdint>
#include <memory>
#include <vector>

#include "model.h"
#include "thread_pool.h"

namespace ek {

class Session {
 public:
  /* context: positions the cache holds, at most the model's; kernels: this machine's. Throws Error. */
  Session(std::shared_ptr<const Model> model, const Kernels &kernels, int64_t context, int threads);

  /* Append n ids. logits: (1, vocab) of the last position, or (n, vocab) when `all`. On an error the cache is as before. */
  void evaluate(const int32_t *ids, int64_t n, bool all, float *logits);
  void rewind(int64_t length);

  int64_t position() const { return position_; }
  int64_t context() const { return context_; }
  int threads() const { return pool_.threads(); }
  int64_t cache_bytes() const { return static_cast<int64_t>(cache_size_ * sizeof(uint16_t)); }
  const Model &model() const { return *model_; }
  const Kernels &kernels() const { return kernels_; }

 private:
  void evaluate_chunk(const int32_t *ids, int64_t m, int64_t kept, float *logits);
  void embed(const int32_t *ids, int64_t m);
  void attention(const Layer &layer, int64_t index, int64_t m);
  void mlp(const Layer &layer, int64_t first, int64_t m);
  void rotate_and_store(int64_t index, int64_t m);
  void attend(int64_t index, int64_t m);
  /* rows x (m, k) -> quantized for w; y (m, w.n) = rows * w, added to y when `add`. */
  void quantize(const Matrix &w, const float *x, int64_t x_stride, int64_t m);
  void multiply(const Matrix &w, int64_t m, float *y, int64_t stride);
  void normed_rows(const std::vector<float> &weight, const Matrix &w, int64_t first, int64_t m);
  uint16_t *cache(int64_t layer, int64_t kind, int64_t head);

  struct Free {
    void operator()(void *p) const;
  };
  template <typename T>
  using Buffer = std::unique_ptr<T[], Free>;
  template <typename T>
  static Buffer<T> allocate(size_t count);

  std::shared_ptr<const Model> model_;
  const Kernels &kernels_;
  int64_t context_, position_ = 0, chunk_;
  ThreadPool pool_;
  size_t cache_size_;
  Buffer<uint16_t> cache_; /* (layers, 2, kv heads, context, head_dim) float16 */
  Buffer<float> x_, wide_, narrow_, cos_, sin_;
  Buffer<int8_t> values_;
  Buffer<float> scales_, sums_;
  std::vector<QuantizedRow> rows_;
  std::vector<Buffer<uint8_t>> scratch_;
};

}  // namespace ek

#endif
