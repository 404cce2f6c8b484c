/* What a session computes: the rows of ids through the embedding, and through the attention and the MLP of each layer. */
#include <algorithm>
#include <cmath>

#include "attention.h"
#include "half.h"
#include "session.h"

namespace ek {
namespace {

constexpr int64_t kPartPositions = 256; /* the smallest part of a context that is worth a task */
constexpr int64_t kAlikeBytes = 16384; /* half of an L1 cache */

int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

/* multiply_few with the bits of multiply_one: some outputs at a time, whose weights stay in the L1 cache for all rows. Meanwhile
 * those of the next outputs are read into the L2 cache, a part of them for each row. */
void multiply_alike(const Kernels &kernels, const Matrix &w, const QuantizedRow *rows, int64_t m, int64_t first, int64_t last,
                    float *y, int64_t stride, bool add) {
  if (kernels.multiply_alike) return kernels.multiply_alike(w, rows, static_cast<int>(m), first, last, y, stride, add);
  const int64_t bytes = w.row_bytes(), outputs = std::clamp<int64_t>(kAlikeBytes / bytes / 8 * 8, 8, 64);
  for (int64_t n = first; n < last; n += outputs) {
    const int64_t end = std::min(last, n + outputs), ahead = std::min(last, end + outputs) - end;
    const int64_t share = round_up(ahead * bytes / m, 64);
    for (int64_t r = 0; r < m; ++r) {
      const uint8_t *next = w.codes + end * bytes + r * share;
      for (int64_t i = 0; i < share && r * share + i < ahead * bytes; i += 64) __builtin_prefetch(next + i, 0, 2);
      kernels.multiply_one(w, rows[r], n, end, y + r * stride, add);
    }
  }
}

}  // namespace

void Session::embed(const int32_t *ids, int64_t m) {
  const Matrix &w = model_->embedding;
  team_.run(m, [&](int64_t r, int) {
    const int64_t row = ids[r];
    float *x = &x_[r * w.k];
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

void Session::prepare(const Matrix &w, const float *x, int64_t stride, int64_t m) {
  prepared_ = &rows_;
  if (m <= kFewRows) {
    team_.run(m, [&](int64_t r, int) {
      kernels_.quantize_row(x + r * stride, w.k, w.bits, w.block, 0, padded_k(w.k), rows_.few[static_cast<size_t>(r)]);
    });
    return;
  }
  const auto size = static_cast<int64_t>(kernels_.pack_bytes(w));
  team_.run(packs_of(m), [&](int64_t p, int) {
    const int64_t first = p * kPackRows;
    kernels_.pack(x + first * stride, stride, static_cast<int>(std::min<int64_t>(kPackRows, m - first)), w, 0, w.k,
                  &rows_.packs[p * size]);
  });
}

void Session::prepare_normed(const std::vector<float> &weight, const Matrix &w, int64_t first, int64_t m) {
  const int64_t hidden = model_->hidden_size;
  const auto norm = [&](int64_t row, float *y) {
    kernels_.rms_norm(&x_[(first + row) * hidden], weight.data(), hidden, model_->rms_norm_eps, y);
  };
  prepared_ = &rows_;
  if (m <= kFewRows) {
    team_.run(m, [&](int64_t r, int thread) {
      float *y = reinterpret_cast<float *>(scratch(thread));
      norm(r, y);
      kernels_.quantize_row(y, w.k, w.bits, w.block, 0, padded_k(w.k), rows_.few[static_cast<size_t>(r)]);
    });
    return;
  }
  const auto size = static_cast<int64_t>(kernels_.pack_bytes(w));
  team_.run(packs_of(m), [&](int64_t p, int thread) {
    float *y = reinterpret_cast<float *>(scratch(thread));
    const int64_t count = std::min<int64_t>(kPackRows, m - p * kPackRows);
    for (int64_t i = 0; i < count; ++i) norm(p * kPackRows + i, y + i * hidden);
    kernels_.pack(y, hidden, static_cast<int>(count), w, 0, w.k, &rows_.packs[p * size]);
  });
}

void Session::multiply_rows(const Matrix &w, int64_t m, int64_t first, int64_t last, float *y, int64_t stride, bool add,
                            bool alike, int thread) {
  if (m == 1)
    kernels_.multiply_one(w, prepared_->few[0], first, last, y, add);
  else if (alike)
    multiply_alike(kernels_, w, prepared_->few.data(), m, first, last, y, stride, add);
  else if (m <= kFewRows)
    kernels_.multiply_few(w, prepared_->few.data(), static_cast<int>(m), first, last, y, stride, add);
  else
    kernels_.multiply_many(w, prepared_->packs.get(), m, first, last, y, stride, add, scratch(thread));
}

void Session::multiply(const Matrix &w, int64_t m, float *y, int64_t stride, bool add, bool alike) {
  /* Decode: tasks of some tens of kilobytes of weights, small enough to balance the threads and large enough to stream.
   * Prefill: at least three tasks per thread, with at most kMostOutputs outputs each. */
  const int64_t rows = m <= kFewRows ? std::max<int64_t>(32, (1 << 16) / w.row_bytes() / 32 * 32)
                                     : std::min(kMostOutputs, round_up((w.n - 1) / (3 * team_.threads()) + 1, 32));
  team_.run((w.n + rows - 1) / rows, [&](int64_t task, int thread) {
    multiply_rows(w, m, task * rows, std::min(w.n, (task + 1) * rows), y, stride, add, alike, thread);
  });
}

void Session::attention(const Layer &layer, int64_t index, int64_t m, bool alike) {
  prepare_normed(layer.input_norm, layer.qkv, 0, m);
  multiply(layer.qkv, m, qkv_.get(), layer.qkv.n, false, alike);
  alike ? attend_one_by_one(index, m) : attend(index, m);
  prepare(layer.o, attended_.get(), layer.o.k, m);
  multiply(layer.o, m, x_.get(), model_->hidden_size, true, alike);
}

/* Like attention(), but each row belongs to a session of its own, or with !one_each to one of several sessions, and uses its
 * cache. */
void Session::attention_of_each(const Layer &layer, int64_t index, const std::vector<StepRow> &each, bool one_each) {
  const Model &model = *model_;
  const int64_t half = model.head_dim / 2, kv_heads = model.num_kv_heads, m = static_cast<int64_t>(each.size());
  prepare_normed(layer.input_norm, layer.qkv, 0, m);
  multiply(layer.qkv, m, qkv_.get(), layer.qkv.n, false, false);
  const auto row = [&](int64_t r) {
    AttentionRows rows = attention_rows(index, 1);
    rows.position = each[static_cast<size_t>(r)].position;
    rows.qkv = &qkv_[r * rows.stride()];
    rows.y = &attended_[r * layer.o.k];
    return rows;
  };
  const auto cache = [&](int64_t r) -> KvCache & { return each[static_cast<size_t>(r)].sequence->cache_; };
  const auto store = [&](int64_t r, int64_t head) {
    rotate_and_store(kernels_, cache(r), row(r), head, &cos_[r * half], &sin_[r * half]);
  };
  if (!one_each) team_.run(m * kv_heads, [&](int64_t task, int) { store(task / kv_heads, task % kv_heads); });
  team_.run(m * kv_heads, [&](int64_t task, int thread) {
    const int64_t r = task / kv_heads, head = task % kv_heads;
    if (one_each) store(r, head);
    kernels_.attend(attention_job(cache(r), row(r), head, 0, 1), scratch(thread));
  });
  prepare(layer.o, attended_.get(), layer.o.k, m);
  multiply(layer.o, m, x_.get(), model.hidden_size, true, false);
}

AttentionRows Session::attention_rows(int64_t index, int64_t m) {
  const Layer &layer = model_->layers[static_cast<size_t>(index)];
  AttentionRows rows{model_->num_heads, model_->num_kv_heads, model_->head_dim, index, position(), m, qkv_.get(), attended_.get()};
  if (!layer.q_norm.empty()) rows.q_norm = layer.q_norm.data(), rows.k_norm = layer.k_norm.data();
  rows.epsilon = model_->qk_norm_eps;
  return rows;
}

/* How many parts the context of few rows is split into. */
int64_t Session::parts_of(const AttentionRows &rows) const {
  const int64_t threads = team_.threads();
  if (rows.m > kFewRows || rows.kv_heads % threads == 0) return 1;
  return std::min((2 * threads + rows.kv_heads - 1) / rows.kv_heads, (rows.position + rows.m) / kPartPositions);
}

void Session::attend(int64_t index, int64_t m) {
  const AttentionRows rows = attention_rows(index, m);
  const int64_t parts = parts_of(rows);
  if (m > kFewRows || parts > 1) {
    rotate_and_store(team_, kernels_, cache_, rows, cos_.get(), sin_.get());
    if (parts > 1) return attend_in_parts(rows, parts);
    return ek::attend(team_, kernels_, cache_, rows, [&](int thread) { return scratch(thread); });
  }
  /* One task for all rows of a key-value head: no other task needs them. */
  team_.run(rows.kv_heads, [&](int64_t head, int thread) {
    rotate_and_store(kernels_, cache_, rows, head, cos_.get(), sin_.get());
    kernels_.attend(attention_job(cache_, rows, head, 0, m), scratch(thread));
  });
}

/* attend() of m rows, each as if it were alone. */
void Session::attend_one_by_one(int64_t index, int64_t m) {
  const AttentionRows rows = attention_rows(index, m);
  rotate_and_store(team_, kernels_, cache_, rows, cos_.get(), sin_.get());
  std::vector<int64_t> whole; /* rows whose context is not split */
  for (int64_t r = 0; r < m; ++r) {
    AttentionRows row = rows;
    row.position += r;
    row.m = 1;
    row.qkv += r * rows.stride();
    row.y += r * rows.heads * rows.head_dim;
    const int64_t parts = parts_of(row);
    parts > 1 ? attend_in_parts(row, parts) : whole.push_back(r);
  }
  const auto tasks = static_cast<int64_t>(whole.size()) * rows.kv_heads;
  team_.run(tasks, [&](int64_t task, int thread) {
    const int64_t r = whole[static_cast<size_t>(task / rows.kv_heads)];
    kernels_.attend(attention_job(cache_, rows, task % rows.kv_heads, r, 1), scratch(thread));
  });
}

/* For few rows over a long context, when there are too few key-value heads to keep the threads busy: the context of each head
 * is split into parts. */
void Session::attend_in_parts(const AttentionRows &all, int64_t parts) {
  const int64_t m = all.m, kv_heads = all.kv_heads, group = all.group(), dim = all.head_dim;
  const int64_t length = all.position + m, each = round_up((length + parts - 1) / parts, kKvBlock), rows = m * group;
  team_.run(parts * kv_heads, [&](int64_t task, int thread) {
    AttentionJob job = attention_job(cache_, all, task % kv_heads, 0, m);
    job.begin = std::min(length, task / kv_heads * each);
    job.end = std::min(length, job.begin + each);
    job.y = &parts_[task * rows * dim];
    job.y_stride = group * dim;
    job.largest = &part_totals_[task * 2 * rows];
    job.total = job.largest + rows;
    kernels_.attend(job, scratch(thread));
  });
  for (int64_t head = 0; head < kv_heads; ++head)
    for (int64_t row = 0; row < rows; ++row) {
      float *y = &all.y[(row / group * kv_heads + head) * group * dim + row % group * dim];
      float most = -1e30f, total = 0.0f;
      for (int64_t p = 0; p < parts; ++p) most = std::max(most, part_totals_[(p * kv_heads + head) * 2 * rows + row]);
      std::fill_n(y, dim, 0.0f);
      for (int64_t p = 0; p < parts; ++p) {
        const float *totals = &part_totals_[(p * kv_heads + head) * 2 * rows + row];
        const float *sum = &parts_[((p * kv_heads + head) * rows + row) * dim];
        const float share = std::exp(totals[0] - most);
        total += share * totals[rows];
        for (int64_t i = 0; i < dim; ++i) y[i] += share * sum[i];
      }
      for (int64_t i = 0; i < dim; ++i) y[i] /= total;
    }
}

void Session::mlp(const Layer &layer, int64_t first, int64_t m, bool alike) {
  prepare_normed(layer.post_attention_norm, layer.gate_up, first, m);
  gate(layer, m, alike);
  prepared_ = &gated_;
  multiply(layer.down, m, &x_[first * model_->hidden_size], model_->hidden_size, true, alike);
}

/* A task computes the gate and up rows of the same outputs and immediately rounds the result for the next product, so no array
 * as wide as the MLP is stored as float. */
void Session::gate(const Layer &layer, int64_t m, bool alike) {
  const int64_t width = model_->intermediate_size;
  const auto size = static_cast<int64_t>(kernels_.pack_bytes(layer.down));
  team_.run((width + kGateOutputs - 1) / kGateOutputs, [&](int64_t task, int thread) {
    const int64_t begin = task * kGateOutputs, end = std::min(width, begin + kGateOutputs), count = end - begin;
    float *gates = reinterpret_cast<float *>(scratch(thread) + product_scratch_), *ups = gates + m * kGateOutputs;
    multiply_rows(layer.gate_up, m, begin, end, gates - begin, kGateOutputs, false, alike, thread);
    multiply_rows(layer.gate_up, m, width + begin, width + end, ups - width - begin, kGateOutputs, false, alike, thread);
    for (int64_t r = 0; r < m; ++r)
      kernels_.silu_multiply(gates + r * kGateOutputs, ups + r * kGateOutputs, count, gates + r * kGateOutputs);
    if (m <= kFewRows) {
      for (int64_t r = 0; r < m; ++r) /* as the columns begin to end - 1 of a row of length end */
        kernels_.quantize_row(gates + r * kGateOutputs - begin, end, layer.down.bits, layer.down.block, begin,
                              padded_k(end), gated_.few[static_cast<size_t>(r)]);
      return;
    }
    for (int64_t r = 0; r < m; r += kPackRows)
      kernels_.pack(gates + r * kGateOutputs, kGateOutputs, static_cast<int>(std::min<int64_t>(kPackRows, m - r)), layer.down,
                    begin, end, &gated_.packs[r / kPackRows * size]);
  });
}

}  // namespace ek
