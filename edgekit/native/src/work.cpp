#include "work.h"

#include <limits>

namespace ek {
namespace {

/* The bytes of `rows` rows of a matrix. */
int64_t stored_bytes(const Matrix &w, int64_t rows) {
  const int64_t scales = w.blocks() * (w.half_scales ? 2 : 4);
  const int64_t zero_points = w.zero_points ? (w.blocks() * w.bits + 7) / 8 : 0;
  const int64_t bias = w.bias ? static_cast<int64_t>(sizeof(float)) : 0;
  return rows * (w.row_bytes() + scales + zero_points + bias);
}

int64_t weights(const Matrix &w) { return w.n * w.k; }

}  // namespace

int64_t token_bytes(const Model &model) {
  const auto norm = static_cast<int64_t>(sizeof(float)) * model.hidden_size;
  int64_t total = stored_bytes(model.embedding, 1) + norm + stored_bytes(model.lm_head, model.lm_head.n);
  for (const Layer &layer : model.layers) {
    total += 2 * norm + static_cast<int64_t>(sizeof(float) * (layer.q_norm.size() + layer.k_norm.size()));
    for (const Matrix *w : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) total += stored_bytes(*w, w->n);
  }
  return total;
}

int64_t prompt_multiply_adds(const Model &model, int64_t tokens) {
  int64_t each = 0;
  for (const Layer &layer : model.layers)
    each += weights(layer.qkv) + weights(layer.o) + weights(layer.gate_up) + weights(layer.down);
  const Layer &last = model.layers.back();
  const int64_t last_mlp = weights(last.gate_up) + weights(last.down);
  int64_t total;
  if (__builtin_mul_overflow(tokens, each - last_mlp, &total) || __builtin_add_overflow(total, last_mlp + weights(model.lm_head), &total))
    return std::numeric_limits<int64_t>::max();
  return total;
}

}  // namespace ek
