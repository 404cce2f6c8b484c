#include "session.h"

#include <algorithm>
#include <cinttypes>

#include "attention.h"
#include "error.h"
#include "half.h"
#include "topology.h"

namespace ek {

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
  std::vector<uint64_t> drawn(states, states + count); /* the caller's are unchanged on an error */
  sample_rows(team_, logits, model_->vocab_size, count, sampling, seen, drawn.data(), tokens);
  if (usage_.cancelled()) fail(EK_CANCELLED, "the call was cancelled");
  std::copy(drawn.begin(), drawn.end(), states);
}

}  // namespace ek
