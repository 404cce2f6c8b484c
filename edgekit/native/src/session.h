/* A session: one sequence of tokens with its KV cache, threads and scratch memory, on a shared model. */
#ifndef EDGEKIT_SRC_SESSION_H
#define EDGEKIT_SRC_SESSION_H

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "attention.h"
#include "kv_cache.h"
#include "model.h"
#include "sampler.h"
#include "team.h"
#include "usage.h"

namespace ek {

constexpr int64_t kMostTogether = kMostFew; /* the most sessions in a step */

class Session {
 public:
  /* context: positions in the cache, at most those of the model. kernels: a table that this machine supports. Throws Error:
   * EK_CONTEXT, EK_NO_MEMORY. usage: outlives the session; null: its own. */
  Session(std::shared_ptr<const Model> model, const Kernels &kernels, int64_t context, int threads, KvType type,
          Usage *usage = nullptr);

  /* Append n ids. logits: (1, vocab) of the last position, or (n, vocab) with `all`. The session is unchanged on an error.
   * Throws Error: EK_BAD_ARGUMENT, EK_CONTEXT, EK_TOKEN, EK_BAD_FILE, EK_CANCELLED. */
  void evaluate(const int32_t *ids, int64_t n, bool all, float *logits);
  void rewind(int64_t length);

  /* Append ids[0] and also evaluate the ids after it (1 to kMostTogether in all), which are guesses of what follows. logits:
   * (n, vocab), the same bits as of n calls with one id. The session is unchanged on an error. Throws Error as evaluate does. */
  void evaluate_ahead(const int32_t *ids, int64_t n, float *logits);
  /* Append an id if it is the next guess of evaluate_ahead(); nothing is evaluated. Any other change drops the guesses. */
  bool confirm(int32_t id);
  /* Counts the changes by other functions than those that append ids. */
  int64_t changes() const { return changes_; }

  /* Append ids to each of `count` sessions of this model, counts[i] to the i-th, kMostTogether in all; the weights are read once for
   * all of them. ids: those of the first session, then those of the second, and so on. The threads and scratch memory of this
   * session do the work; it may be one of the sessions. logits: (count, vocab) of the last id of each. All sessions are unchanged
   * on an error. Throws Error as evaluate does, and EK_CANCELLED if a call of this session is. */
  void step(Session *const *sequences, const int64_t *counts, int64_t count, const int32_t *ids, float *logits);
  /* The same with one id for each session. */
  void step(Session *const *sequences, int64_t count, const int32_t *ids, float *logits) {
    step(sequences, std::vector<int64_t>(static_cast<size_t>(std::max<int64_t>(count, 0)), 1).data(), count, ids, logits);
  }

  /* Choose a token for each of `count` rows of logits (count, vocab) (1 to kMostTogether) with the threads of this session; see
   * sample_rows. The states are unchanged on an error. Throws Error as that does, and EK_CANCELLED. */
  void sample(const float *logits, int64_t count, const ek_sampling *sampling, const uint8_t *const *seen, uint64_t *states,
              int32_t *tokens);

  /* Become a copy of `other`, a session of the same model whose positions fit into this context. Throws Error. */
  void copy(const Session &other);
  /* Copy the keys and values of a block of kKvBlock positions to `bytes` (block_bytes()). Throws Error(EK_BAD_ARGUMENT). */
  void get_block(int64_t block, uint8_t *bytes) const;
  /* Append a block's ids (kKvBlock) with their keys and values; the session has whole blocks. Throws Error: EK_BAD_ARGUMENT,
   * EK_CONTEXT, EK_TOKEN. */
  void append_block(const int32_t *ids, const uint8_t *bytes);
  int64_t block_bytes() const { return static_cast<int64_t>(cache_.block_bytes()); }
  /* Write the session to a file, or read one that a session of the same model and cache type wrote. Throws Error. */
  void save(const std::string &path) const;
  void load(const std::string &path);

  /* Whether a call uses the session. The functions of this class do not look at it, except that evaluate and step end when
   * the call is cancelled. */
  Usage &usage() const { return usage_; }
  bool forked() const { return team_.pool().forked(); } /* since it was created: it has no threads */
  const ThreadPool &pool() const { return team_.pool(); }

  int64_t position() const { return position_.load(std::memory_order_relaxed); } /* from any thread, at any time */
  int64_t context() const { return cache_.context(); }
  int threads() const { return team_.threads(); }
  int64_t cache_bytes() const { return static_cast<int64_t>(cache_.bytes()); }
  const std::vector<int32_t> &ids() const { return ids_; }
  const Model &model() const { return *model_; }
  const Kernels &kernels() const { return kernels_; }

 private:
  static constexpr int64_t kFewRows = kMostFew;
  static constexpr int64_t kGateOutputs = kChunk; /* of a task of gate() */
  static int64_t packs_of(int64_t rows) { return (rows + kPackRows - 1) / kPackRows; }

  /* Evaluate m ids behind the session's; logits (kept, vocab) of the last `kept` of them. alike: at most kMostFew rows, which get
   * the bits that they get one by one. */
  void evaluate_rows(const int32_t *ids, int64_t m, int64_t kept, bool alike, float *logits);
  void check_ids(const int32_t *ids, int64_t n) const;
  bool write(std::FILE *file) const; /* what save() writes; false: errno says why not */
  void append(const int32_t *ids, int64_t n);
  void check_going_on() const;
  void check_result() const;
  void count_ids() { position_.store(static_cast<int64_t>(ids_.size()), std::memory_order_relaxed); }
  void embed(const int32_t *ids, int64_t m);
  void check_step(Session *const *sequences, const int64_t *counts, int64_t count, const int32_t *ids) const;
  void attention(const Layer &layer, int64_t index, int64_t m, bool alike);
  struct StepRow { /* an id of a step */
    Session *sequence;
    int64_t position;
  };
  void attention_of_each(const Layer &layer, int64_t index, const std::vector<StepRow> &each, bool one_each);
  void mlp(const Layer &layer, int64_t first, int64_t m, bool alike);
  void attend(int64_t index, int64_t m); /* rotates and stores the rows first */
  void attend_one_by_one(int64_t index, int64_t m);
  int64_t parts_of(const AttentionRows &rows) const;
  void attend_in_parts(const AttentionRows &rows, int64_t parts);
  AttentionRows attention_rows(int64_t index, int64_t m);

  /* Convert rows of activations to the form that products with w need: x (m, k) with `stride` from row to row. */
  void prepare(const Matrix &w, const float *x, int64_t stride, int64_t m);
  /* The same for the RMS norm of rows of the residual stream, from `first` on. */
  void prepare_normed(const std::vector<float> &weight, const Matrix &w, int64_t first, int64_t m);
  /* y (m, w.n) = the prepared rows times w; `add`: add to y. */
  void multiply(const Matrix &w, int64_t m, float *y, int64_t stride, bool add, bool alike);
  void multiply_rows(const Matrix &w, int64_t m, int64_t first, int64_t last, float *y, int64_t stride, bool add, bool alike, int thread);
  /* Compute silu(gate) * up of the rows prepared for gate_up, as prepared rows in gated_. */
  void gate(const Layer &layer, int64_t m, bool alike);

  /* Prepared rows: `few` for up to kMostFew rows, else `packs`. There are two sets, because gate() reads one and writes the other. */
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
  Usage own_usage_;
  Usage &usage_;
  Team team_;
  int64_t chunk_;
  KvCache cache_;
  std::vector<int32_t> ids_;
  std::vector<int32_t> guesses_; /* ids whose keys and values are in the cache behind those of ids_ */
  int64_t changes_ = 0;
  std::atomic<int64_t> position_{0}; /* the number of ids_ */
  Buffer<float> x_, qkv_, attended_, cos_, sin_;
  Buffer<float> parts_, part_totals_; /* for attend_in_parts */
  Rows rows_, gated_;
  const Rows *prepared_ = &rows_;
  std::vector<Buffer<uint8_t>> scratch_; /* one for each thread */
  size_t product_scratch_;               /* the part of it used by products; the rest is for gate() */
};

}  // namespace ek

#endif
