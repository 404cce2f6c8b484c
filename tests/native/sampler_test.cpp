/* Tests that the sampler chooses the same tokens on every machine, and its edge cases, under sanitizers. The probabilities are
 * tested against numpy in tests/runtime/test_sampler.py. */
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "src/error.h"
#include "src/sampler.h"

namespace {

constexpr ek_sampling kPlain = {1.0f, 1.0f, 0.0f, 1.0f, 0};

std::vector<float> spread(int n) {
  std::vector<float> logits;
  for (int64_t i = 0; i < n; ++i) logits.push_back(static_cast<float>(i * 7919 % 1000) / 100.0f);
  return logits;
}

int32_t draw(const std::vector<float> &logits, ek_sampling sampling, uint64_t &state, const uint8_t *seen = nullptr) {
  return ek::sample(logits.data(), static_cast<int64_t>(logits.size()), sampling, seen, state);
}

/* The same numbers as in test_sampler.py. */
void the_same_everywhere() {
  const std::vector<float> logits = spread(1000);
  uint64_t state = 42;
  for (const int32_t expected : {742, 173, 284, 336, 39, 877, 225, 805})
    CHECK(draw(logits, {0.8f, 0.95f, 0.0f, 1.0f, 0}, state) == expected);
}

void every_length() {
  for (int n = 1; n < 70; ++n) {
    const std::vector<float> logits = spread(n);
    const std::vector<uint8_t> seen(logits.size(), 1);
    uint64_t state = 5;
    int best = 0;
    for (int i = 0; i < n; ++i) best = logits[static_cast<size_t>(i)] > logits[static_cast<size_t>(best)] ? i : best;
    CHECK(draw(logits, {0.0f, 1.0f, 0.0f, 1.0f, 0}, state) == best);
    CHECK(state == 5);
    for (const int k : {0, 1, 2, 15, 16, 17, 69}) {
      const int32_t token = draw(logits, {0.5f, 0.9f, 0.01f, 1.1f, k}, state, seen.data());
      CHECK(token >= 0 && token < n && (k != 1 || token == best));
    }
  }
}

void extremes() {
  uint64_t state = 1;
  const float huge = 3e38f;
  CHECK(draw({-huge, huge, -huge, -INFINITY}, kPlain, state) == 1);
  CHECK(draw({-huge, 1.0f, -huge}, {1e-45f, 0.5f, 1.0f, 1.0f, 2}, state) == 1);
  CHECK(draw({1.0f, 0.99999f}, {1e-30f, 1.0f, 0.0f, 1.0f, 0}, state) == 0);
  std::vector<int> counts(3); /* 0 and -0 are equally likely, so both are kept */
  for (int i = 0; i < 1000; ++i) ++counts[static_cast<size_t>(draw({-0.0f, 0.0f, -1.0f}, {1.0f, 1.0f, 0.0f, 1.0f, 1}, state))];
  CHECK(counts[0] > 400 && counts[1] > 400 && counts[2] == 0);
}

std::string refused(const std::vector<float> &logits, ek_sampling sampling, ek_status status) {
  uint64_t state = 1;
  try {
    draw(logits, sampling, state);
    return "";
  } catch (const ek::Error &error) {
    CHECK(error.status == status);
    return error.what();
  }
}

void errors() {
  CHECK(refused({1.0f, NAN}, kPlain, EK_NON_FINITE) == "cannot sample: the largest logit of the model is nan; its arithmetic overflowed");
  CHECK(refused({1.0f, INFINITY}, kPlain, EK_NON_FINITE) == "cannot sample: the largest logit of the model is inf; its arithmetic overflowed");
  CHECK(refused({-INFINITY}, kPlain, EK_NON_FINITE) == "cannot sample: the largest logit of the model is -inf; its arithmetic overflowed");
  CHECK(refused({}, kPlain, EK_BAD_ARGUMENT) == "cannot sample from 0 logits; allowed: 1 to 2147483647");
  CHECK(refused({1.0f}, {-1.0f, 1.0f, 0.0f, 1.0f, 0}, EK_BAD_ARGUMENT) == "temperature is -1; it must be 0 (greedy) or more");
}

/* Rows that threads share out get the tokens and states that each gets alone. */
void rows_together() {
  ek::Team team(std::make_shared<ek::ThreadPool>(3));
  constexpr int64_t kRows = 16, kCount = 1000;
  std::vector<float> logits;
  std::vector<ek_sampling> sampling;
  const std::vector<uint8_t> marked(kCount, 1);
  std::vector<const uint8_t *> seen;
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t i = 0; i < kCount; ++i) logits.push_back(static_cast<float>((i * 7919 + r * 31) % 1000) / 100.0f);
    sampling.push_back({static_cast<float>(r % 4) * 0.3f, 0.95f, 0.0f, 1.0f + static_cast<float>(r % 3) * 0.1f, static_cast<int32_t>(r)});
    seen.push_back(r % 2 ? marked.data() : nullptr);
  }
  std::vector<uint64_t> states(kRows, 7), alone(kRows, 7);
  std::vector<int32_t> tokens(kRows);
  for (int turn = 0; turn < 5; ++turn) {
    ek::sample_rows(team, logits.data(), kCount, kRows, sampling.data(), seen.data(), states.data(), tokens.data());
    for (size_t r = 0; r < kRows; ++r) {
      const float *row = logits.data() + static_cast<int64_t>(r) * kCount;
      CHECK(tokens[r] == ek::sample(row, kCount, sampling[r], seen[r], alone[r]) && states[r] == alone[r]);
    }
  }
  logits[5 * kCount + 3] = NAN; /* an error of one row is an error of the call, and changes no state */
  try {
    ek::sample_rows(team, logits.data(), kCount, kRows, sampling.data(), seen.data(), states.data(), tokens.data());
    CHECK(false);
  } catch (const ek::Error &error) {
    CHECK(error.status == EK_NON_FINITE && states == alone);
  }
}

}  // namespace

int main() {
  the_same_everywhere();
  every_length();
  extremes();
  errors();
  rows_together();
  return finish("sampler_test");
}
