#include "trial.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "buffer.h"
#include "error.h"
#include "kv_cache.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace ek {
namespace {

constexpr int kRounds = 5, kConfirmingRounds = 10;
constexpr double kBudgetSeconds = 4e-3; /* for a role: a slow processor gets fewer rounds, but at least two */
constexpr int64_t kColumns = 2048;
constexpr int64_t kWeightBytes = 1 << 21;
constexpr int64_t kTaskBytes = 1 << 16; /* of weights in a call, as in Session::multiply */

/* The time that this thread has run, which does not include the time of other programs on its core. */
double thread_seconds() {
  timespec now;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/* Remove memory from all caches. Does nothing where a program cannot: the weights then come from the last-level cache. */
void flush(const void *from, int64_t bytes) {
  const auto *p = static_cast<const uint8_t *>(from);
#if defined(__x86_64__)
  for (int64_t i = 0; i < bytes; i += 64) _mm_clflush(p + i);
  _mm_mfence();
#elif defined(__aarch64__) && defined(__linux__)
  for (int64_t i = 0; i < bytes; i += 64) __asm__ __volatile__("dc civac, %0" : : "r"(p + i) : "memory");
  __asm__ __volatile__("dsb ish" : : : "memory");
#else
  (void)p, (void)bytes;
#endif
}

/* A format of weights, and the share of kWeightBytes that has it. */
struct Format {
  int bits, block;
  bool zero_points, half_scales;
  int64_t eighths;
};
/* What recipes store: 4 bits with and without zero points, and some matrices with 8 bits. */
constexpr Format kFormats[] = {{4, 128, false, false, 4}, {4, 64, true, true, 2}, {8, 64, true, true, 2}};

struct Weight {
  Buffer<uint8_t> codes, scales, zero_points;
  Matrix w;

  explicit Weight(const Format &format) {
    w.k = kColumns;
    w.bits = format.bits;
    w.block = format.block;
    w.half_scales = format.half_scales;
    w.n = kWeightBytes * format.eighths / 8 / w.row_bytes();
    const int64_t count = w.n * w.blocks();
    codes = Buffer<uint8_t>(static_cast<size_t>(bytes()));
    auto *words = reinterpret_cast<uint64_t *>(codes.get()); /* written, because zero pages that were not share memory */
    for (int64_t i = 0; i < bytes() / 8; ++i) words[i] = static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u;
    scales = Buffer<uint8_t>(static_cast<size_t>(count) * (format.half_scales ? 2 : 4));
    for (int64_t i = 0; i < count; ++i)
      if (format.half_scales)
        reinterpret_cast<uint16_t *>(scales.get())[i] = 0x2000; /* 2^-7 */
      else
        reinterpret_cast<float *>(scales.get())[i] = 0.0078125f;
    w.codes = codes.get();
    w.scales = scales.get();
    if (!format.zero_points) return;
    zero_points = Buffer<uint8_t>(static_cast<size_t>(count)); /* with 4 bits, half of it is used */
    std::fill_n(zero_points.get(), count, uint8_t{0x88});
    w.zero_points = zero_points.get();
  }

  int64_t bytes() const { return w.n * w.row_bytes(); }
};

std::vector<float> activations(int64_t count) {
  std::vector<float> x(static_cast<size_t>(count));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) * 0.02f;
  return x;
}

/* One role's work: prepare() is not timed, run() is. */
class Trial {
 public:
  virtual ~Trial() = default;
  virtual double multiply_adds() const = 0;
  virtual void prepare(const Kernels &table) = 0;
  virtual void run(const Kernels &table) = 0;
};

/* Decode and few rows: all weights, read from memory. */
class Reading : public Trial {
 public:
  /* counts: rows of activations of successive calls. */
  Reading(const std::vector<Weight> &weights, const Kernels &complete, std::vector<int> counts)
      : weights_(weights), counts_(std::move(counts)), y_(static_cast<size_t>(kMostFew * kWeightBytes / kColumns)) {
    const int64_t most = *std::max_element(counts_.begin(), counts_.end());
    const std::vector<float> x = activations(most * kColumns);
    for (const Weight &each : weights_) {
      const int64_t blocks = each.w.blocks();
      Rows rows{Buffer<int8_t>(static_cast<size_t>(most * kColumns)), Buffer<float>(static_cast<size_t>(most * blocks)),
                Buffer<float>(static_cast<size_t>(most * blocks)), {}};
      for (int64_t r = 0; r < most; ++r) {
        rows.rows.push_back({&rows.values[r * kColumns], &rows.scales[r * blocks], &rows.sums[r * blocks]});
        complete.quantize_row(&x[static_cast<size_t>(r * kColumns)], kColumns, each.w.bits, each.w.block, 0, kColumns,
                              rows.rows.back());
      }
      rows_.push_back(std::move(rows));
    }
  }

  double multiply_adds() const override {
    double sum = 0;
    for_each_call([&](const Matrix &w, const Rows &, int64_t first, int64_t last, int count) {
      sum += static_cast<double>((last - first) * w.k * count);
    });
    return sum;
  }

  void prepare(const Kernels &) override {
    for (const Weight &each : weights_) flush(each.w.codes, each.bytes());
  }

  void run(const Kernels &table) override {
    for_each_call([&](const Matrix &w, const Rows &rows, int64_t first, int64_t last, int count) {
      if (count == 1)
        table.multiply_one(w, rows.rows[0], first, last, y_.get(), false);
      else
        table.multiply_few(w, rows.rows.data(), count, first, last, y_.get(), w.n, false);
    });
  }

 private:
  struct Rows {
    Buffer<int8_t> values;
    Buffer<float> scales, sums;
    std::vector<QuantizedRow> rows;
  };

  template <typename Call>
  void for_each_call(Call call) const {
    size_t calls = 0;
    for (size_t i = 0; i < weights_.size(); ++i) {
      const Matrix &w = weights_[i].w;
      const int64_t rows = kTaskBytes / w.row_bytes();
      for (int64_t first = 0; first < w.n; first += rows, ++calls)
        call(w, rows_[i], first, std::min(w.n, first + rows), counts_[calls % counts_.size()]);
    }
  }

  const std::vector<Weight> &weights_;
  std::vector<int> counts_;
  std::vector<Rows> rows_;
  Buffer<float> y_;
};

/* Prefill: some rows of each matrix, with so many rows of activations that unpacking costs little. */
class Panels : public Trial {
 public:
  explicit Panels(const std::vector<Weight> &weights)
      : weights_(weights), x_(activations(kRows * kColumns)), y_(static_cast<size_t>(kRows * kOutputs)) {}

  double multiply_adds() const override { return static_cast<double>(weights_.size()) * kRows * kOutputs * kColumns; }

  void prepare(const Kernels &table) override {
    const auto found = std::find_if(packed_.begin(), packed_.end(), [&](const Packed &each) { return each.table == &table; });
    if (found != packed_.end()) return;
    Packed packed{&table, {}, {}};
    size_t scratch = 0;
    for (const Weight &each : weights_) {
      const size_t bytes = table.pack_bytes(each.w);
      packed.packs.emplace_back(bytes * kRows / kPackRows);
      for (int64_t p = 0; p < kRows / kPackRows; ++p)
        table.pack(&x_[static_cast<size_t>(p * kPackRows * kColumns)], kColumns, kPackRows, each.w, 0, kColumns,
                   packed.packs.back().get() + static_cast<size_t>(p) * bytes);
      scratch = std::max(scratch, table.multiply_many_scratch(each.w, kRows));
    }
    packed.scratch = Buffer<uint8_t>(scratch);
    packed_.push_back(std::move(packed));
  }

  void run(const Kernels &table) override {
    for (const Packed &packed : packed_)
      for (size_t i = 0; packed.table == &table && i < weights_.size(); ++i)
        table.multiply_many(weights_[i].w, packed.packs[i].get(), kRows, 0, kOutputs, y_.get(), kOutputs, false,
                            packed.scratch.get());
  }

 private:
  static constexpr int64_t kRows = 128, kOutputs = 32;
  struct Packed {
    const Kernels *table;
    std::vector<Buffer<uint8_t>> packs;
    Buffer<uint8_t> scratch;
  };

  const std::vector<Weight> &weights_;
  std::vector<float> x_;
  Buffer<float> y_;
  std::vector<Packed> packed_;
};

/* Attention: a key-value head with six query heads, some rows of a prompt and several single ones. */
class Attending : public Trial {
 public:
  explicit Attending(const Kernels &complete)
      : cache_(1, 1, kDim, kPositions, KvType::kFloat16), q_(activations(kRows * kGroup * kDim)),
        y_(static_cast<size_t>(kRows * kGroup * kDim)) {
    const std::vector<float> x = activations(kPositions + 2 * kDim);
    for (int64_t p = 0; p < kPositions; ++p)
      cache_.store(complete, 0, 0, p, &x[static_cast<size_t>(p)], &x[static_cast<size_t>(p + kDim)]);
  }

  double multiply_adds() const override {
    const int64_t positions = kRows * (2 * kPositions - kRows + 1) / 2 + kSingles * kPositions;
    return static_cast<double>(2 * positions * kGroup * kDim); /* scores, and sums of values */
  }

  void prepare(const Kernels &table) override {
    const size_t bytes = table.attend_scratch(kDim, kRows * kGroup);
    if (bytes <= bytes_) return;
    scratch_ = Buffer<uint8_t>(bytes_ = bytes);
  }

  void run(const Kernels &table) override {
    table.attend(job(kRows), scratch_.get());
    for (int i = 0; i < kSingles; ++i) table.attend(job(1), scratch_.get());
  }

 private:
  static constexpr int kDim = 128;
  static constexpr int64_t kGroup = 6, kPositions = 512, kRows = 16, kSingles = 8;

  AttentionJob job(int64_t rows) const {
    AttentionJob job{};
    job.q = q_.data();
    job.q_stride = job.y_stride = kGroup * kDim;
    job.m = rows;
    job.group = kGroup;
    job.type = cache_.type();
    job.keys = cache_.keys(0, 0);
    job.values = cache_.values(0, 0);
    job.end = kPositions;
    job.position = kPositions - rows;
    job.head_dim = kDim;
    job.y = y_.get();
    return job;
  }

  KvCache cache_;
  std::vector<float> q_;
  Buffer<float> y_;
  Buffer<uint8_t> scratch_;
  size_t bytes_ = 0;
};

std::vector<Weight> all_weights() {
  std::vector<Weight> weights;
  for (const Format &format : kFormats) weights.emplace_back(format);
  return weights;
}

std::unique_ptr<Trial> trial_of(Role role, const std::vector<Weight> &weights, const Kernels &complete) {
  switch (role) {
    case Role::kDecode: return std::make_unique<Reading>(weights, complete, std::vector<int>{1});
    case Role::kFewRows: return std::make_unique<Reading>(weights, complete, std::vector<int>{3, 8});
    case Role::kPrefill: return std::make_unique<Panels>(weights);
    case Role::kAttention: return std::make_unique<Attending>(complete);
    case Role::kElementwise: break;
  }
  fail(EK_INTERNAL, "the speed of elementwise functions is not measured");
}

/* A role's trial, its tables and what they reached. */
struct Contest {
  std::unique_ptr<Trial> trial;
  std::vector<MeasuredSpeed> speeds;
  double spent = 0; /* seconds */

  void round(bool counts) {
    for (MeasuredSpeed &speed : speeds) {
      trial->prepare(*speed.table);
      const double start = thread_seconds();
      trial->run(*speed.table);
      const double time = std::max(thread_seconds() - start, 1e-9);
      if (counts) speed.rate = std::max(speed.rate, std::floor(trial->multiply_adds() / time));
      spent += time;
    }
  }
  bool is_upset() const { return fastest(speeds) != speeds.front().table; }
};

}  // namespace

const Kernels *fastest(const std::vector<MeasuredSpeed> &candidates) {
  const MeasuredSpeed *best = &candidates.front();
  for (const MeasuredSpeed &candidate : candidates)
    if (candidate.rate > kClearlyFaster * best->rate) best = &candidate;
  return best->table;
}

void measure_speeds(std::vector<MeasuredSpeed> &speeds, const Kernels &complete) {
  const std::vector<Weight> weights = all_weights();
  std::vector<Contest> contests;
  for (const MeasuredSpeed &speed : speeds) {
    if (contests.empty() || contests.back().speeds.front().role != speed.role)
      contests.push_back({trial_of(speed.role, weights, complete), {}});
    contests.back().speeds.push_back({speed.role, speed.table, 0});
  }
  for (int round = -1; round < kRounds; ++round) /* round -1 warms up */
    for (Contest &contest : contests)
      if (round < 2 || contest.spent < kBudgetSeconds) contest.round(round >= 0);
  for (int round = 0; round < kConfirmingRounds; ++round)
    for (Contest &contest : contests)
      if (contest.is_upset() && (round < 2 || contest.spent < 3 * kBudgetSeconds)) contest.round(true);
  size_t at = 0;
  for (const Contest &contest : contests)
    for (const MeasuredSpeed &speed : contest.speeds) speeds[at++].rate = speed.rate;
}

}  // namespace ek
