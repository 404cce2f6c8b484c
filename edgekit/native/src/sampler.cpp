/* Every filter is a threshold on logits, found by selection instead of sorting.
 *
 * The logits are processed in tiles of one cache line. One pass finds the largest logit of each tile; later passes skip the
 * tiles that cannot contain what they search for, which is nearly all of them.
 *
 * The result is the same on every machine: the exponential is a polynomial (below), sums have a fixed order, and this file
 * is compiled without contraction of multiply-adds. Functions of libm are used only to decide which tiles to skip. */
#include "sampler.h"

#include <algorithm>
#include <cfloat>
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <exception>
#include <functional>
#include <vector>

#include "clones.h"
#include "error.h"

namespace ek {
namespace {

constexpr int kTile = 16;

/* Tokens less likely than e^-40 times the likeliest one get the weight 0: even 2^24 of them are less than 1e-10 of the sum. */
constexpr float kLeastExponent = -40.0f;

/* e^x for -40 <= x <= 0, accurate to 2 units in the last place; 0 below. 2^n from the exponent bits times the Taylor series of
 * e^r, |r| <= ln(2)/2. The version in kernels/common.inl is compiled with contraction, so it differs between machines. */
EK_INLINE float exponential(float exponent) {
  const float x = exponent >= kLeastExponent ? exponent : kLeastExponent;
  const float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer */
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;   /* ln 2 in two parts, the first exact in 10 bits */
  const float r2 = r * r, low = (1.0f + r) + (0.5f + r * (1.0f / 6.0f)) * r2; /* in pairs, to shorten the dependency chain */
  const float high = (1.0f / 24.0f + r * (1.0f / 120.0f)) + (1.0f / 720.0f + r * (1.0f / 5040.0f)) * r2;
  const float p = low + high * (r2 * r2);
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  const float result = p * power;
  return exponent >= kLeastExponent ? result : 0.0f;
}

/* An integer with the same order as the float; 0 and -0 are equal. */
uint32_t ordered(float x) {
  x += 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

float from_ordered(uint32_t key) {
  const uint32_t bits = key & 0x80000000u ? key ^ 0x80000000u : ~key;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

struct Candidate {
  uint32_t key; /* ordered(logit) */
  float weight; /* above 0 */
};

/* The largest logit such that the candidates at or above it have a total weight of at least `target`; the smallest logit if
 * all of them have less. A weighted quantile by radix selection: three passes over digits of 11, 11 and 10 bits. */
float find_cut(const std::vector<Candidate> &candidates, double target) {
  constexpr uint32_t kDigits = 2048;
  std::vector<double> sums(kDigits);
  uint32_t prefix = 0, known = 0;
  double above = 0.0;
  for (const uint32_t shift : {21u, 10u, 0u}) {
    const uint32_t last = shift == 0 ? 1023 : kDigits - 1;
    std::fill(sums.begin(), sums.end(), 0.0);
    for (const Candidate &c : candidates)
      if ((c.key & known) == prefix) sums[c.key >> shift & last] += static_cast<double>(c.weight);
    uint32_t chosen = 0;
    double before = above;
    for (uint32_t digit = last + 1; digit-- > 0;) {
      if (sums[digit] == 0.0) continue;
      chosen = digit;
      before = above;
      above += sums[digit];
      if (above >= target) break;
    }
    above = before;
    prefix |= chosen << shift;
    known |= last << shift;
  }
  return from_ordered(prefix);
}

typedef float Vec __attribute__((vector_size(16)));
typedef int32_t Mask __attribute__((vector_size(16)));
typedef double DoubleVec __attribute__((vector_size(32)));

/* Find the largest of every kTile numbers of x (count * kTile). Returns whether one is NaN. Four lanes are enough, because
 * memory bandwidth is the limit. */
bool find_largest(const float *x, size_t count, float *most) {
  Mask numbers = Mask{} - 1;
  for (size_t t = 0; t < count; ++t, x += kTile) {
    Vec v[4];
    std::memcpy(v, x, sizeof v);
    numbers &= (v[0] == v[0]) & (v[1] == v[1]) & (v[2] == v[2]) & (v[3] == v[3]);
    const Vec a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3], c = a > b ? a : b;
    const float low = c[0] > c[1] ? c[0] : c[1], high = c[2] > c[3] ? c[2] : c[3];
    most[t] = low > high ? low : high;
  }
  return !(numbers[0] & numbers[1] & numbers[2] & numbers[3]);
}

/* Logits in tiles, and the largest logit of each. */
class Tiles {
 public:
  Tiles(const float *logits, int64_t n) : logits_(logits), n_(n), most_(static_cast<size_t>((n + kTile - 1) / kTile)) {
    const auto whole = static_cast<size_t>(n / kTile);
    for (int i = 0; i < kTile; ++i) last_[i] = i < n % kTile ? logits[n / kTile * kTile + i] : -INFINITY;
    has_nan = find_largest(logits, whole, most_.data());
    if (whole < count()) has_nan = find_largest(last_, 1, &most_[whole]) || has_nan;
    peak = *std::max_element(most_.begin(), most_.end());
  }

  size_t count() const { return most_.size(); }
  int64_t size() const { return n_; }
  float most(size_t t) const { return most_[t]; }
  /* Tile t; the last one is padded with minus infinity. */
  const float *tile(size_t t) const { return t < static_cast<size_t>(n_ / kTile) ? logits_ + t * kTile : last_; }
  /* The id of the i-th token of tile t. */
  int32_t token(size_t t, int i) const { return static_cast<int32_t>(t * kTile) + i; }

  float peak;
  bool has_nan;

 private:
  const float *logits_;
  int64_t n_;
  float last_[kTile];
  std::vector<float> most_;
};

float kth_of(std::vector<float> &values, int64_t k) {
  const auto at = values.begin() + (k - 1);
  std::nth_element(values.begin(), at, values.end(), std::greater<float>());
  return *at;
}

/* The k-th largest logit; k is less than the number of logits. */
float kth_largest(const Tiles &tiles, int64_t k) {
  /* The maxima of the k largest tiles are k logits, so the k-th largest logit is not below the smallest of them. */
  float bound = -INFINITY;
  if (static_cast<int64_t>(tiles.count()) >= k) {
    std::vector<float> most;
    for (size_t t = 0; t < tiles.count(); ++t) most.push_back(tiles.most(t));
    bound = kth_of(most, k);
  }
  std::vector<float> found;
  for (size_t t = 0; t < tiles.count(); ++t) {
    if (tiles.most(t) < bound) continue;
    for (int i = 0; i < kTile && tiles.token(t, i) < tiles.size(); ++i)
      if (tiles.tile(t)[i] >= bound) found.push_back(tiles.tile(t)[i]);
  }
  return kth_of(found, k);
}

/* The tokens to consider: both limits are inclusive. */
struct Limits {
  float least_logit;
  double least_weight; /* of e^((logit - largest) / temperature) */
};

/* Weights of tokens at a temperature: e^((logit - largest) / temperature), so the likeliest token has weight 1. */
class Weights {
 public:
  Weights(const Tiles &tiles, float temperature)
      : tiles_(tiles), inverse_(temperature > 1.0f / FLT_MAX ? 1.0f / temperature : FLT_MAX) {}

  /* Calls visit(tile, weights (kTile)) in order for every tile with a token inside the limits, until it returns false. Tokens
   * outside the limits have weight 0. */
  template <typename Visit>
  EK_INLINE void visit(Limits limits, Visit visit) const {
    /* A margin of 0.001 is more than the error of the exponent and the logarithm, so no tile is skipped by mistake. */
    const float exponent = limits.least_weight > 0.0 ? static_cast<float>(std::log(limits.least_weight) - 0.001) : kLeastExponent;
    const auto least = static_cast<float>(limits.least_weight);
    for (size_t t = 0; t < tiles_.count(); ++t) {
      if (!((tiles_.most(t) - tiles_.peak) * inverse_ >= exponent) || tiles_.most(t) < limits.least_logit) continue;
      const float *x = tiles_.tile(t);
      float w[kTile];
      for (int i = 0; i < kTile; ++i) {
        const float weight = exponential((x[i] - tiles_.peak) * inverse_);
        w[i] = weight >= least && x[i] >= limits.least_logit ? weight : 0.0f;
      }
      if (!visit(t, w)) return;
    }
  }

 private:
  const Tiles &tiles_;
  float inverse_;
};

/* The total weight of the tokens inside the limits. */
EK_CLONES double total(const Weights &weights, Limits limits) {
  DoubleVec sums = {};
  weights.visit(limits, [&](size_t, const float *w) {
    Vec v[4];
    std::memcpy(v, w, sizeof v);
    sums += __builtin_convertvector((v[0] + v[1]) + (v[2] + v[3]), DoubleVec);
    return true;
  });
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/* The smallest logit among the fewest most likely tokens whose weight reaches top_p * sum; `sum` is the total weight inside
 * the limits. */
float nucleus_end(const Tiles &tiles, const Weights &weights, Limits limits, double top_p, double sum) {
  /* All weights below (1 - p) * sum / n together are less than (1 - p) * sum, so none of them is kept. */
  limits.least_weight = std::fmax(limits.least_weight, (1.0 - top_p) * sum / static_cast<double>(tiles.size()));
  std::vector<Candidate> candidates;
  weights.visit(limits, [&](size_t t, const float *w) {
    const float *x = tiles.tile(t);
    for (int i = 0; i < kTile; ++i)
      if (w[i] > 0.0f) candidates.push_back({ordered(x[i]), w[i]});
    return true;
  });
  return find_cut(candidates, top_p * sum);
}

/* The first token at which the running sum of weights exceeds `target`, or the last token with a weight if rounding keeps the
 * sum below it. */
int32_t token_at(const Tiles &tiles, const Weights &weights, Limits limits, double target) {
  int32_t token = 0;
  double sum = 0.0;
  weights.visit(limits, [&](size_t t, const float *w) {
    for (int i = 0; i < kTile && sum <= target; ++i) {
      if (w[i] == 0.0f) continue;
      token = tiles.token(t, i);
      sum += static_cast<double>(w[i]);
    }
    return sum <= target;
  });
  return token;
}

/* A uniform number in [0, 1) with 53 bits from splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
 * generators, 2014), whose state is a single counter. */
double uniform(uint64_t &state) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return static_cast<double>((z ^ z >> 31) >> 11) * 0x1p-53;
}

int32_t draw(const Tiles &tiles, const ek_sampling &s, uint64_t &state) {
  const Weights weights(tiles, s.temperature);
  const bool limited = s.top_k > 0 && s.top_k < tiles.size();
  Limits limits = {limited ? kth_largest(tiles, s.top_k) : -INFINITY, 0.0};
  if (s.top_p < 1.0f)
    limits.least_logit = nucleus_end(tiles, weights, limits, static_cast<double>(s.top_p), total(weights, limits));
  limits.least_weight = static_cast<double>(s.min_p); /* relative to the likeliest token, whose weight is 1 */
  return token_at(tiles, weights, limits, uniform(state) * total(weights, limits));
}

int32_t likeliest(const Tiles &tiles) {
  for (size_t t = 0;; ++t) {
    if (tiles.most(t) != tiles.peak) continue;
    for (int i = 0; i < kTile; ++i)
      if (tiles.tile(t)[i] == tiles.peak) return tiles.token(t, i);
  }
}

/* Make seen ids less likely (penalty above 1): CTRL, arXiv:1909.05858, section 4.1, but negative logits are multiplied, as
 * all implementations do. */
std::vector<float> penalized(const float *logits, int64_t n, const uint8_t *seen, float penalty) {
  std::vector<float> result(logits, logits + n);
  for (int64_t i = 0; i < n; ++i) {
    uint64_t eight = 1;
    if (i % 8 == 0 && n - i >= 8) std::memcpy(&eight, seen + i, 8);
    if (eight == 0) {
      i += 7;
      continue;
    }
    float &x = result[static_cast<size_t>(i)];
    if (seen[i]) x = x > 0.0f ? x / penalty : x * penalty;
  }
  return result;
}

void check(int64_t n, const ek_sampling &s) {
  if (n < 1 || n > INT32_MAX) fail(EK_BAD_ARGUMENT, "cannot sample from %" PRId64 " logits; allowed: 1 to %d", n, INT32_MAX);
  if (!(s.temperature >= 0.0f && s.temperature <= FLT_MAX))
    fail(EK_BAD_ARGUMENT, "temperature is %g; it must be 0 (greedy) or more", static_cast<double>(s.temperature));
  if (!(s.top_p > 0.0f && s.top_p <= 1.0f))
    fail(EK_BAD_ARGUMENT, "top_p is %g; it must be above 0 and at most 1", static_cast<double>(s.top_p));
  if (!(s.min_p >= 0.0f && s.min_p <= 1.0f))
    fail(EK_BAD_ARGUMENT, "min_p is %g; it must be between 0 and 1", static_cast<double>(s.min_p));
  if (!(s.repetition_penalty >= 0.01f && s.repetition_penalty <= FLT_MAX))
    fail(EK_BAD_ARGUMENT, "repetition_penalty is %g; it must be 0.01 or more", static_cast<double>(s.repetition_penalty));
  if (s.top_k < 0) fail(EK_BAD_ARGUMENT, "top_k is %d; it must be 0 (off) or more", s.top_k);
}

}  // namespace

int32_t sample(const float *logits, int64_t n, const ek_sampling &sampling, const uint8_t *seen, uint64_t &state) {
  check(n, sampling);
  std::vector<float> copy;
  if (seen && sampling.repetition_penalty != 1.0f) copy = penalized(logits, n, seen, sampling.repetition_penalty);
  const Tiles tiles(copy.empty() ? logits : copy.data(), n);
  if (tiles.has_nan || std::isinf(tiles.peak))
    fail(EK_NON_FINITE, "cannot sample: the largest logit of the model is %s; its arithmetic overflowed",
         tiles.has_nan ? "nan" : tiles.peak > 0 ? "inf" : "-inf");
  return sampling.temperature == 0.0f ? likeliest(tiles) : draw(tiles, sampling, state);
}

void sample_rows(Team &team, const float *logits, int64_t n, int64_t count, const ek_sampling *sampling, const uint8_t *const *seen,
                 uint64_t *states, int32_t *tokens) {
  std::vector<uint64_t> drawn(states, states + count);
  std::vector<std::exception_ptr> errors(static_cast<size_t>(count)); /* no exception may leave a thread of the pool */
  team.run(count, [&](int64_t r, int) {
    const auto at = static_cast<size_t>(r);
    try {
      tokens[r] = sample(logits + r * n, n, sampling[r], seen[r], drawn[at]);
    } catch (...) {
      errors[at] = std::current_exception();
    }
  });
  for (const std::exception_ptr &error : errors)
    if (error) std::rethrow_exception(error);
  std::copy(drawn.begin(), drawn.end(), states);
}

}  // namespace ek
