#include "session.h"

#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <cstdlib>
#include <cstring>

#include "error.h"
#include "half.h"

namespace ek {
namespace {

constexpr int64_t kPrefillChunk = 256; /* rows worked on at once: scratch stays some tens of megabytes at 8B */
constexpr int64_t kFewRows = 8;        /* up to here streaming the weights once is what costs */
constexpr int64_t kQueryTile = 64;     /* rows of an attention task */

}  // namespace

void Session::Free::operator()(void *p) const { std::free(p); }

template <typename T>
Session::Buffer<T> Session::allocate(size_t count) {
  /* Zero pages are handed out when they are first written: a cache costs what is used of it. */
  void *p = std::calloc(count + 64 / sizeof(T), sizeof(T));
  if (!p) fail(EK_NO_MEMORY, "not enough memory for %zu bytes", count * sizeof(T));
  return Buffer<T>(static_cast<T *>(p));
}

Session::Session(std::shared_ptr<const Model> model, const Kernels &kernels, int64_t context, int threads)
    : model_(std::move(model)), kernels_(kernels), context_(context), pool_(threads) {
  const Model &m = *model_;
  if (context < 1 || context > m.context_length)
    fail(EK_CONTEXT, "a context of %" PRId64 " tokens was asked for; the model holds 1 to %" PRId64, context, m.context_length);
  chunk_ = std::min(context, kPrefillChunk);
  const int64_t q_width = m.num_heads * m.head_dim, kv_width = m.num_kv_heads * m.head_dim;
  const int64_t widest = std::max({m.hidden_size, q_width, m.intermediate_size});
  cache_size_ = static_cast<size_t>(m.num_layers * 2 * kv_width * context);
  cache_ = allocate<uint16_t>(cache_size_);
  const auto rows = static_cast<size_t>(chunk_);
  x_ = allocate<float>(rows * static_cast<size_t>(m.hidden_size));
  wide_ = allocate<float>(rows * static_cast<size_t>(std::max({q_width + 2 * kv_width, 2 * m.intermediate_size, m.hidden_size})));
  narrow_ = allocate<float>(rows * static_cast<size_t>(std::max(q_width, m.hidden_size)));
  cos_ = allocate<float>(rows * static_cast<size_t>(m.head_dim / 2));
  sin_ = allocate<float>(rows * static_cast<size_t>(m.head_dim / 2));
  const auto padded = static_cast<size_t>(padded_k(widest));
  values_ = allocate<int8_t>(rows * padded);
  scales_ = allocate<float>(rows * padded / kGroup);
  sums_ = allocate<float>(rows * padded / kGroup);
  for (size_t r = 0; r < rows; ++r)
    rows_.push_back({&values_[r * padded], &scales_[r * padded / kGroup], &sums_[r * padded / kGroup]});
  size_t scratch = kernels_.multiply_many_scratch(m.lm_head);
  for (const Matrix *w : {&m.layers[0].qkv, &m.layers[0].o, &m.layers[0].gate_up, &m.layers[0].down})
    scratch = std::max(scratch, kernels_.multiply_many_scratch(*w));
  for (int t = 0; t < pool_.threads(); ++t)
    scratch_.push_back(allocate<uint8_t>(std::max(scratch, sizeof(float) * static_cast<size_t>(m.intermediate_size))));
}

uint16_t *Session::cache(int64_t layer, int64_t kind, int64_t head) {
  const Model &m = *model_;
  return &cache_[static_cast<size_t>(((layer * 2 + kind) * m.num_kv_heads + head) * context_ * m.head_dim)];
}

void Session::rewind(int64_t length) {
  if (length < 0 || length > position_)
    fail(EK_BAD_ARGUMENT, "cannot rewind to %" PRId64 ": the sequence has %" PRId64 " positions", length, position_);
  position_ = length;
}

void Session::evaluate(const int32_t *ids, int64_t n, bool all, float *logits) {
  const Model &m = *model_;
  if (n < 1) fail(EK_BAD_ARGUMENT, "%" PRId64 " tokens were given; at least 1 is needed", n);
  if (n > context_ - position_)
    fail(EK_CONTEXT, "%" PRId64 " tokens after %" PRId64 " do not fit into a context of %" PRId64, n, position_, context_);
  for (int64_t i = 0; i < n; ++i)
    if (ids[i] < 0 || ids[i] >= m.vocab_size)
      fail(EK_TOKEN, "token id %d is outside the vocabulary of %" PRId64, ids[i], m.vocab_size);
  for (int64_t done = 0; done < n;) {
    const int64_t rows = std::min(n - done, chunk_);
    const bool last = done + rows == n;
    evaluate_chunk(ids + done, rows, all ? rows : last ? 1 : 0, logits);
    if (all) logits += rows * m.vocab_size;
    done += rows;
  }
}

/* m rows through all layers; logits of the last `kept` of them. */
void Session::evaluate_chunk(const int32_t *ids, int64_t m, int64_t kept, float *logits) {
  const Model &model = *model_;
  embed(ids, m);
  for (int64_t p = 0; p < m; ++p)
    for (int64_t i = 0; i < model.head_dim / 2; ++i) {
      const int64_t at = (position_ + p) * (model.head_dim / 2) + i;
      cos_[static_cast<size_t>(p * (model.head_dim / 2) + i)] = read_float(model.rotary_cos, at, model.half_rotary);
      sin_[static_cast<size_t>(p * (model.head_dim / 2) + i)] = read_float(model.rotary_sin, at, model.half_rotary);
    }
  for (int64_t i = 0; i < model.num_layers; ++i) {
    const Layer &layer = model.layers[static_cast<size_t>(i)];
    attention(layer, i, m);
    /* Nothing after the last layer's attention is needed for rows whose logits nobody asked for. */
    const int64_t first = i + 1 == model.num_layers ? m - kept : 0;
    if (first < m) mlp(layer, first, m - first);
  }
  position_ += m;
  if (kept == 0) return;
  normed_rows(model.final_norm, model.lm_head, m - kept, kept);
  multiply(model.lm_head, kept, logits, model.vocab_size);
}

void Session::embed(const int32_t *ids, int64_t m) {
  const Matrix &w = model_->embedding;
  pool_.run(m, [&](int64_t r, int) {
    const int64_t row = ids[r];
    float *x = &x_[static_cast<size_t>(r * w.k)];
    const uint8_t *codes = w.codes + row * w.row_bytes();
    const int64_t zero_row = (w.blocks() * w.bits + 7) / 8;
    for (int64_t b = 0; b < w.blocks(); ++b) {
      const float scale = read_float(w.scales, row * w.blocks() + b, w.half_scales);
      int zero = 1 << (w.bits - 1);
      if (w.zero_points)
        zero = w.bits == 8 ? w.zero_points[row * zero_row + b]
                           : w.zero_points[row * zero_row + b / 2] >> (b % 2 * 4) & 15;
      const int64_t end = std::min(w.k, (b + 1) * w.block);
      for (int64_t k = b * w.block; k < end; ++k) {
        const int code = w.bits == 8 ? codes[k] : codes[k / 2] >> (k % 2 * 4) & 15;
        x[k] = scale * static_cast<float>(code - zero);
      }
    }
  });
}

void Session::quantize(const Matrix &w, const float *x, int64_t x_stride, int64_t m) {
  pool_.run(m, [&](int64_t r, int) {
    kernels_.quantize_row(x + r * x_stride, w.k, w.bits, w.block, rows_[static_cast<size_t>(r)]);
  });
}

void Session::normed_rows(const std::vector<float> &weight, const Matrix &w, int64_t first, int64_t m) {
  const int64_t hidden = model_->hidden_size;
  pool_.run(m, [&](int64_t r, int) {
    float *y = &narrow_[static_cast<size_t>(r * hidden)];
    kernels_.rms_norm(&x_[static_cast<size_t>((first + r) * hidden)], weight.data(), hidden, model_->rms_norm_eps, y);
    kernels_.quantize_row(y, w.k, w.bits, w.block, rows_[static_cast<size_t>(r)]);
  });
}

void Session::multiply(const Matrix &w, int64_t m, float *y, int64_t stride) {
  /* Tasks of some tens of kilobytes of weights: small enough to even out the threads, large enough to stream. */
  const int64_t rows = std::max<int64_t>(32, (1 << 16) / w.row_bytes() / 32 * 32);
  pool_.run((w.n + rows - 1) / rows, [&](int64_t task, int thread) {
    const int64_t first = task * rows, last = std::min(w.n, first + rows);
    if (m <= kFewRows)
      kernels_.multiply_few(w, rows_.data(), static_cast<int>(m), first, last, y, stride);
    else
      kernels_.multiply_many(w, rows_.data(), static_cast<int>(m), first, last, y, stride, scratch_[static_cast<size_t>(thread)].get());
  });
}

void Session::attention(const Layer &layer, int64_t index, int64_t m) {
  const Model &model = *model_;
  const int64_t q_width = model.num_heads * model.head_dim;
  normed_rows(layer.input_norm, layer.qkv, 0, m);
  multiply(layer.qkv, m, wide_.get(), layer.qkv.n);
  rotate_and_store(index, m);
  attend(index, m);
  quantize(layer.o, narrow_.get(), q_width, m);
  multiply(layer.o, m, wide_.get(), model.hidden_size);
  for (int64_t i = 0; i < m * model.hidden_size; ++i) x_[static_cast<size_t>(i)] += wide_[static_cast<size_t>(i)];
}

/* Rotate q and k in place; put k and v into the cache. */
void Session::rotate_and_store(int64_t index, int64_t m) {
  const Model &model = *model_;
  const int64_t dim = model.head_dim, heads = model.num_heads, kv_heads = model.num_kv_heads;
  const int64_t width = (heads + 2 * kv_heads) * dim;
  pool_.run(m, [&](int64_t r, int) {
    float *row = &wide_[static_cast<size_t>(r * width)];
    const float *cos = &cos_[static_cast<size_t>(r * (dim / 2))], *sin = &sin_[static_cast<size_t>(r * (dim / 2))];
    for (int64_t h = 0; h < heads + kv_heads; ++h) kernels_.rotate(row + h * dim, cos, sin, dim / 2);
    for (int64_t h = 0; h < kv_heads; ++h)
      for (int64_t kind = 0; kind < 2; ++kind)
        kernels_.to_half(row + (heads + kind * kv_heads + h) * dim, dim, cache(index, kind, h) + (position_ + r) * dim);
  });
}

void Session::attend(int64_t index, int64_t m) {
  const Model &model = *model_;
  const int64_t dim = model.head_dim, group = model.num_heads / model.num_kv_heads;
  const int64_t width = (model.num_heads + 2 * model.num_kv_heads) * dim;
  const int64_t tiles = (m + kQueryTile - 1) / kQueryTile;
  pool_.run(tiles * model.num_kv_heads, [&](int64_t task, int) {
    /* The last rows see the most positions: they go first, so that the threads end together. */
    const int64_t head = task % model.num_kv_heads, tile = tiles - 1 - task / model.num_kv_heads;
    const int64_t first = tile * kQueryTile, count = std::min(m - first, kQueryTile);
    kernels_.attend({&wide_[static_cast<size_t>(first * width + head * group * dim)], width, count, group,
                     cache(index, 0, head), cache(index, 1, head), position_ + first + count, static_cast<int>(dim),
                     &narrow_[static_cast<size_t>(first * model.num_heads * dim + head * group * dim)],
                     model.num_heads * dim});
  });
}

void Session::mlp(const Layer &layer, int64_t first, int64_t m) {
  const Model &model = *model_;
  const int64_t width = model.intermediate_size;
  normed_rows(layer.post_attention_norm, layer.gate_up, first, m);
  multiply(layer.gate_up, m, wide_.get(), 2 * width);
  pool_.run(m, [&](int64_t r, int thread) {
    float *y = reinterpret_cast<float *>(scratch_[static_cast<size_t>(thread)].get());
    const float *both = &wide_[static_cast<size_t>(r * 2 * width)];
    kernels_.silu_multiply(both, both + width, width, y);
    kernels_.quantize_row(y, width, layer.down.bits, layer.down.block, rows_[static_cast<size_t>(r)]);
  });
  multiply(layer.down, m, wide_.get(), model.hidden_size);
  float *x = &x_[static_cast<size_t>(first * model.hidden_size)];
  for (int64_t i = 0; i < m * model.hidden_size; ++i) x[i] += wide_[static_cast<size_t>(i)];
}

}  // namespace ek
