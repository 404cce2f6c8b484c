#include "session.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstring>

#include "attention.h"
#include "error.h"
#include "half.h"
#include "topology.h"

namespace ek {
namespace {

constexpr int64_t kFewRows = kMostFew;
constexpr int64_t kPartPositions = 256; /* the smallest part of a context that is worth a task */
constexpr int64_t kGateOutputs = kChunk;
constexpr int64_t kAlikeBytes = 16384; /* half of an L1 cache */

int64_t packs_of(int64_t rows) { return (rows + kPackRows - 1) / kPackRows; }

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

void Session::allocate_rows(Rows &rows, const std::vector<const Matrix *> &for_matrices, size_t packs) {
  size_t pack = 0;
  int64_t k = 0;
  for (const Matrix *w : for_matrices) {
    pack = std::max(pack, kernels_.pack_bytes(*w));
    k = std::max(k, padded_k(w->k));
  }
  const auto padded = static_cast<size_t>(k), few = static_cast<size_t>(kFewRows);
  rows.values = Buffer<int8_t>(few * padded);
  rows.scales = Buffer<float>(few * padded / kLeastBlock);
  rows.sums = Buffer<float>(few * padded / kLeastBlock);
  for (int64_t r = 0; r < kFewRows; ++r)
    rows.few.push_back({&rows.values[r * k], &rows.scales[r * k / kLeastBlock], &rows.sums[r * k / kLeastBlock]});
  rows.packs = Buffer<uint8_t>(packs * pack);
}

Session::Session(std::shared_ptr<const Model> model, const Kernels &kernels, int64_t context, int threads, KvType type,
                 Usage *usage)
    : model_(std::move(model)), kernels_(kernels), usage_(usage ? *usage : own_usage_), team_(shared_pool(threads), &usage_),
      chunk_(std::min(context, kernels.prefill_rows)),
      cache_(*model_, context, type) {
  const Model &m = *model_;
  const Layer &layer = m.layers[0];
  ids_.reserve(static_cast<size_t>(context));
  const auto rows = static_cast<size_t>(chunk_);
  x_ = Buffer<float>(rows * static_cast<size_t>(m.hidden_size));
  qkv_ = Buffer<float>(rows * static_cast<size_t>(layer.qkv.n));
  attended_ = Buffer<float>(rows * static_cast<size_t>(layer.o.k));
  cos_ = Buffer<float>(rows * static_cast<size_t>(m.head_dim / 2));
  sin_ = Buffer<float>(rows * static_cast<size_t>(m.head_dim / 2));
  const auto part_rows = static_cast<size_t>(kFewRows * m.num_heads * std::max<int64_t>(1, 2 * team_.threads()));
  parts_ = Buffer<float>(part_rows * static_cast<size_t>(m.head_dim));
  part_totals_ = Buffer<float>(2 * part_rows);
  const auto packs = static_cast<size_t>(packs_of(chunk_));
  std::vector<const Matrix *> narrow{&m.lm_head}, wide; /* all layers, because they may differ in width and block size */
  for (const Layer &each : m.layers) {
    narrow.insert(narrow.end(), {&each.qkv, &each.o, &each.gate_up});
    wide.push_back(&each.down);
  }
  allocate_rows(rows_, narrow, packs);
  allocate_rows(gated_, wide, packs);

  product_scratch_ = 0;
  for (const auto *matrices : {&narrow, &wide})
    for (const Matrix *w : *matrices)
      product_scratch_ = std::max(product_scratch_, kernels_.multiply_many_scratch(*w, chunk_));
  product_scratch_ = (product_scratch_ + 63) / 64 * 64;
  const auto gate = static_cast<size_t>(2 * chunk_ * kGateOutputs) * sizeof(float);
  const auto norm = static_cast<size_t>(kPackRows * m.hidden_size) * sizeof(float);
  const size_t each = std::max({product_scratch_ + gate, norm, attention_scratch(kernels_, m.head_dim, m.num_heads / m.num_kv_heads)});
  for (int t = 0; t < team_.threads(); ++t) scratch_.emplace_back(each);
}

void Session::rewind(int64_t length) {
  if (length < 0 || length > position())
    fail(EK_BAD_ARGUMENT, "cannot rewind the session to %" PRId64 " tokens: it has %" PRId64, length, position());
  ids_.resize(static_cast<size_t>(length));
  guesses_.clear();
  ++changes_;
  count_ids();
}

void Session::check_ids(const int32_t *ids, int64_t n) const {
  const Model &m = *model_;
  if (n < 1) fail(EK_BAD_ARGUMENT, "cannot evaluate %" PRId64 " tokens; at least 1 is required", n);
  if (n > context() - position())
    fail(EK_CONTEXT, "%" PRId64 " tokens after %" PRId64 " do not fit into the context of %" PRId64, n, position(), context());
  for (int64_t i = 0; i < n; ++i)
    if (ids[i] < 0 || ids[i] >= m.vocab_size)
      fail(EK_TOKEN, "token id %d is outside the vocabulary of %" PRId64, ids[i], m.vocab_size);
}

void Session::get_block(int64_t block, uint8_t *bytes) const {
  const int64_t blocks = position() / kKvBlock;
  if (block < 0 || block >= blocks)
    fail(EK_BAD_ARGUMENT, "cannot copy block %" PRId64 " of the session: it has %" PRId64 " whole blocks of %d tokens", block, blocks, kKvBlock);
  cache_.get_block(block, bytes);
}

void Session::append_block(const int32_t *ids, const uint8_t *bytes) {
  if (position() % kKvBlock)
    fail(EK_BAD_ARGUMENT, "cannot append a block behind %" PRId64 " tokens; allowed: multiples of %d", position(), kKvBlock);
  check_ids(ids, kKvBlock);
  cache_.set_block(position() / kKvBlock, bytes);
  guesses_.clear();
  append(ids, kKvBlock);
}

void Session::append(const int32_t *ids, int64_t n) {
  ids_.insert(ids_.end(), ids, ids + n); /* cannot fail: the room was reserved */
  count_ids();
}

void Session::evaluate(const int32_t *ids, int64_t n, bool all, float *logits) {
  check_ids(ids, n);
  const int64_t before = position(), vocab = model_->vocab_size;
  const ThreadPool::Caller caller(team_.pool());
  const ReadGuard guard;
  guesses_.clear();
  try {
    for (int64_t done = 0; done < n;) {
      const int64_t count = std::min(chunk_, n - done), kept = all ? count : done + count == n;
      evaluate_rows(ids + done, count, kept, false, all ? logits + done * vocab : logits);
      append(ids + done, count);
      done += count;
    }
  } catch (...) {
    rewind(before);
    throw;
  }
}

void Session::evaluate_ahead(const int32_t *ids, int64_t n, float *logits) {
  check_ids(ids, n);
  const int64_t most = std::min(chunk_, kMostTogether);
  if (n > most) fail(EK_BAD_ARGUMENT, "cannot evaluate %" PRId64 " tokens ahead; allowed: 1 to %" PRId64, n, most);
  const ThreadPool::Caller caller(team_.pool());
  const ReadGuard guard;
  guesses_.clear();
  evaluate_rows(ids, n, n, true, logits);
  guesses_.assign(ids + 1, ids + n);
  append(ids, 1);
}

bool Session::confirm(int32_t id) {
  if (guesses_.empty() || guesses_.front() != id) return false;
  guesses_.erase(guesses_.begin());
  append(&id, 1);
  return true;
}

/* Throws Error if the call was cancelled, or if the file of the weights, which the next layers read, has become shorter. */
void Session::check_going_on() const {
  check_result();
  model_->check_file();
}

/* Throws Error if what was computed is not valid. */
void Session::check_result() const {
  if (usage_.cancelled()) fail(EK_CANCELLED, "the call was cancelled");
  if (model_->is_lost()) model_->check_file();
}

void Session::evaluate_rows(const int32_t *ids, int64_t m, int64_t kept, bool alike, float *logits) {
  const Model &model = *model_;
  const int64_t half = model.head_dim / 2;
  check_going_on();
  embed(ids, m);
  for (int64_t i = 0; i < m * half; ++i) {
    cos_[i] = read_float(model.rotary_cos, position() * half + i, model.half_rotary);
    sin_[i] = read_float(model.rotary_sin, position() * half + i, model.half_rotary);
  }
  for (int64_t i = 0; i < model.num_layers; ++i) {
    const Layer &layer = model.layers[static_cast<size_t>(i)];
    attention(layer, i, m, alike);
    /* Rows whose logits are not requested end with the attention of the last layer. */
    const int64_t first = i + 1 == model.num_layers ? m - kept : 0;
    if (first < m) mlp(layer, first, m - first, alike);
    if (m > kFewRows) check_going_on(); /* a layer of a prompt can take a second, a whole token some milliseconds */
  }
  if (kept > 0) {
    prepare_normed(model.final_norm, model.lm_head, m - kept, kept);
    multiply(model.lm_head, kept, logits, model.vocab_size, false, alike);
  }
  check_result();
}

void Session::check_step(Session *const *sequences, const int64_t *counts, int64_t count, const int32_t *ids) const {
  const int64_t most = std::min(chunk_, kMostTogether);
  if (count < 1 || count > most)
    fail(EK_BAD_ARGUMENT, "cannot evaluate a step of %" PRId64 " sessions; this worker allows 1 to %" PRId64, count, most);
  int64_t rows = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Session &each = *sequences[i];
    if (each.model_ != model_)
      fail(EK_BAD_ARGUMENT, "session %" PRId64 " of the step belongs to another model than the worker", i);
    if (std::find(sequences, sequences + i, sequences[i]) != sequences + i)
      fail(EK_BAD_ARGUMENT, "session %" PRId64 " is in the step twice", i);
    if (counts[i] < 1 || counts[i] > most - rows)
      fail(EK_BAD_ARGUMENT, "cannot evaluate a step with %" PRId64 " tokens for session %" PRId64 "; allowed: 1 or more, %" PRId64
           " in all", counts[i], i, most);
    if (counts[i] == 1 && each.position() == each.context())
      fail(EK_CONTEXT, "session %" PRId64 " of the step has filled its context of %" PRId64, i, each.context());
    each.check_ids(ids + rows, counts[i]);
    rows += counts[i];
  }
}

void Session::step(Session *const *sequences, const int64_t *counts, int64_t count, const int32_t *ids, float *logits) {
  const Model &model = *model_;
  check_step(sequences, counts, count, ids);
  const int64_t half = model.head_dim / 2;
  const ThreadPool::Caller caller(team_.pool());
  const ReadGuard guard;
  check_going_on();
  std::vector<StepRow> rows, last; /* the last id of each session, whose logits are requested, comes behind all others */
  std::vector<int32_t> row_ids, last_ids;
  for (int64_t i = 0, at = 0; i < count; at += counts[i++]) {
    sequences[i]->guesses_.clear(); /* their places are written to */
    for (int64_t k = 0; k < counts[i]; ++k) {
      const bool ends = k + 1 == counts[i];
      (ends ? last : rows).push_back({sequences[i], sequences[i]->position() + k});
      (ends ? last_ids : row_ids).push_back(ids[at + k]);
    }
  }
  rows.insert(rows.end(), last.begin(), last.end());
  row_ids.insert(row_ids.end(), last_ids.begin(), last_ids.end());
  const auto m = static_cast<int64_t>(rows.size());
  embed(row_ids.data(), m);
  for (int64_t r = 0; r < m; ++r)
    for (int64_t i = 0; i < half; ++i) {
      const int64_t at = rows[static_cast<size_t>(r)].position * half + i;
      cos_[r * half + i] = read_float(model.rotary_cos, at, model.half_rotary);
      sin_[r * half + i] = read_float(model.rotary_sin, at, model.half_rotary);
    }
  for (int64_t i = 0; i < model.num_layers; ++i) {
    const Layer &layer = model.layers[static_cast<size_t>(i)];
    attention_of_each(layer, i, rows, m == count);
    const int64_t first = i + 1 == model.num_layers ? m - count : 0;
    mlp(layer, first, m - first, false);
  }
  prepare_normed(model.final_norm, model.lm_head, m - count, count);
  multiply(model.lm_head, count, logits, model.vocab_size, false, false);
  check_result();
  for (int64_t i = 0; i < count; ids += counts[i++]) sequences[i]->append(ids, counts[i]);
}

void Session::sample(const float *logits, int64_t count, const ek_sampling *sampling, const uint8_t *const *seen, uint64_t *states,
                     int32_t *tokens) {
  if (count < 1 || count > kMostTogether)
    fail(EK_BAD_ARGUMENT, "cannot sample from %" PRId64 " rows; allowed: 1 to %" PRId64, count, kMostTogether);
  const ThreadPool::Caller caller(team_.pool());
  sample_rows(team_, logits, model_->vocab_size, count, sampling, seen, states, tokens);
  if (usage_.cancelled()) fail(EK_CANCELLED, "the call was cancelled");
}

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
