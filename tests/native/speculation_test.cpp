/* Tests speculation: the logits have the same bits, so greedy answers are the same and samples have the same distribution; how
 * many tokens are guessed; and that guesses never outlive a change of the session. */
#include "text/speculation.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.h"
#include "small_artifact.h"
#include "src/choice.h"
#include "src/error.h"
#include "src/sampler.h"
#include "src/session.h"

namespace {

using namespace ek;

using Ids = std::vector<int32_t>;
using Logits = std::vector<float>;

bool same_bits(const Logits &a, const Logits &b) { return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0; }

Ids random_ids(int64_t count, uint32_t seed) {
  Random random{seed};
  Ids ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(random.below(kVocab));
  return ids;
}

Ids joined(std::initializer_list<Ids> parts) {
  Ids all;
  for (const Ids &part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

struct Pair {
  std::shared_ptr<const Model> model;
  Session plain, session;
  Speculation speculation;
  explicit Pair(const std::shared_ptr<const Model> &opened, int64_t context = kContext, int threads = 3)
      : model(opened), plain(opened, choose_kernels(), context, threads, KvType::kFloat16), session(opened, choose_kernels(), context, threads, KvType::kFloat16) {}

  /* Append an id to both; returns the logits, which must be the same. */
  Logits next(int32_t id) {
    Logits expected(kVocab), found(kVocab);
    plain.evaluate(&id, 1, false, expected.data());
    speculation.next(session, id, found.data());
    CHECK(same_bits(expected, found) && session.ids() == plain.ids());
    return found;
  }
  void prompt(const Ids &ids) {
    Logits logits(kVocab);
    for (Session *each : {&plain, &session}) each->evaluate(ids.data(), static_cast<int64_t>(ids.size()), false, logits.data());
  }
  void rewind(int64_t length) {
    plain.rewind(length);
    session.rewind(length);
  }
};

void repeated_text(const std::shared_ptr<const Model> &model) {
  const Ids part = random_ids(60, 1), other = random_ids(30, 2);
  Pair pair(model);
  pair.prompt(joined({part, other}));
  for (const int32_t id : part) pair.next(id);
  const int64_t first = pair.speculation.accepted();
  CHECK(first > 0 && pair.speculation.guessed() >= first);
  for (const int32_t id : joined({random_ids(20, 3), other, part, part})) pair.next(id);
  for (int i = 0; i < 200; ++i) pair.next(i % 7); /* 470 to 670 tokens: contexts in parts */
  CHECK(pair.speculation.accepted() > first);
}

void greedy(const std::shared_ptr<const Model> &model) {
  for (uint32_t seed = 1; seed < 4; ++seed) {
    Pair pair(model);
    const Ids start = random_ids(20, seed);
    pair.prompt(joined({start, start}));
    int32_t id = 5;
    for (int i = 0; i < 150; ++i) {
      const Logits logits = pair.next(id);
      id = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
  }
}

/* Guesses are dropped by a rewind, by other tokens, by a copy and by a step; the text is then read again. */
void changes(const std::shared_ptr<const Model> &model) {
  const Ids part = random_ids(40, 4);
  Pair pair(model, 200);
  pair.prompt(joined({part, {1, 2, 3}}));
  const auto upto = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) pair.next(part[static_cast<size_t>(i)]);
  };
  for (int64_t count = 8; count < 16; ++count) {
    pair.rewind(43);
    upto(count);
    pair.next(part[static_cast<size_t>(count)] == 7 ? 8 : 7); /* not what was guessed */
    pair.next(9);
    pair.rewind(43);
    upto(count);
    pair.prompt({part[static_cast<size_t>(count)], 1}); /* guessed, but evaluated without it */
    pair.next(2);
  }
  Session copied(model, choose_kernels(), 200, 3, KvType::kFloat16);
  pair.rewind(43);
  upto(9);
  copied.copy(pair.session);
  pair.session.copy(copied);
  upto(0);
  pair.next(part[9]);
  upto(12);
  Logits logits(2 * kVocab), alone(kVocab);
  const int32_t two[] = {part[12], 3};
  Session *sessions[] = {&pair.session, &copied};
  copied.step(sessions, 2, two, logits.data());
  pair.plain.evaluate(two, 1, false, alone.data());
  pair.session.rewind(pair.session.position() - 1); /* a step has its own kernels */
  pair.plain.rewind(pair.plain.position() - 1);
  pair.next(part[12]);
  pair.next(part[13]);

  Pair small(model, 70); /* guesses end with the context */
  small.prompt(joined({part, {1, 2, 3}}));
  for (int64_t i = 0; i < 27; ++i) small.next(part[static_cast<size_t>(i)]);
  bool full = false;
  try {
    small.speculation.next(small.session, 1, logits.data());
  } catch (const Error &error) {
    full = error.status == EK_CONTEXT;
  }
  CHECK(full && small.session.position() == 70);
  small.rewind(60);
  small.next(part[17]);
}

/* A smaller model guesses where the text itself says nothing. */
void draft(const std::shared_ptr<const Model> &small) {
  const SmallArtifact artifact(false, 14);
  const std::shared_ptr<const Model> model = artifact.open();
  const auto opened = std::make_shared<Session>(small, choose_kernels(), kContext, 3, KvType::kFloat16);
  Session &guessing = *opened, reference(small, choose_kernels(), kContext, 1, KvType::kFloat16);
  Logits logits(kVocab);
  const auto likely = [&](int32_t id) { /* what the small model continues with */
    reference.evaluate(&id, 1, false, logits.data());
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  };
  Pair pair(model);
  pair.speculation.set_draft(opened, pair.session);
  const Ids start = random_ids(300, 12);
  pair.prompt(start);
  reference.evaluate(start.data(), static_cast<int64_t>(start.size()), false, logits.data());
  int32_t id = 3;
  for (int i = 0; i < 12; ++i) pair.next(id), id = likely(id);
  const int64_t first = pair.speculation.accepted();
  CHECK(first > 0 && guessing.position() > 300);
  for (const int32_t other : random_ids(60, 13)) pair.next(other); /* wrong guesses change nothing */
  pair.rewind(200);
  for (const int32_t other : random_ids(10, 14)) pair.next(other);
  CHECK(pair.session.position() == 210);

  Pair busy(model);
  busy.speculation.set_draft(opened, busy.session);
  busy.prompt(random_ids(20, 15));
  CHECK(guessing.usage().begin());
  bool refused = false;
  try {
    busy.speculation.next(busy.session, 1, logits.data());
  } catch (const Error &error) {
    refused = error.status == EK_BUSY;
  }
  CHECK(refused && busy.session.position() == 20);
  guessing.usage().end();
  busy.next(1);
  busy.speculation.set_draft(nullptr, busy.session);
  const int64_t held = guessing.position();
  busy.next(2);
  CHECK(guessing.position() == held);

  const auto little = std::make_shared<Session>(small, choose_kernels(), 30, 1, KvType::kFloat16); /* its context ends first */
  Pair longer(model);
  longer.speculation.set_draft(little, longer.session);
  longer.prompt(random_ids(25, 16));
  for (const int32_t other : random_ids(20, 17)) longer.next(other);
  CHECK(little->position() <= 30);
}

void stakes() {
  Stakes stakes;
  CHECK(stakes.choose(20, 7) == 5 && stakes.choose(20, 4) == 3 && stakes.choose(20, 0) == 0);
  const auto wait = [&] { /* until wrong guesses are paid for */
    for (int i = 0; i < 300; ++i) stakes.took(1, 0.01);
  };
  for (int i = 0; i < 30; ++i, wait()) stakes.learn(20, 7, 0);
  CHECK(stakes.choose(20, 7) == 0 && stakes.choose(10, 7) > 0); /* each length of match has its own record */
  int skipped = 0;
  while (stakes.choose(20, 7) == 0 && skipped < 1000) ++skipped;
  CHECK(skipped > 20 && skipped < 200); /* tried again now and then */
  for (int i = 0; i < 6; ++i) stakes.learn(10, 7, 0);
  CHECK(stakes.choose(5, 7) == 0); /* they have cost too much */
  wait();
  CHECK(stakes.choose(5, 7) > 0);

  int tokens = 0;
  double lost = 0;
  Stakes unlucky; /* all guesses are wrong */
  unlucky.took(1, 0.01);
  for (; tokens < 2000; ++tokens) {
    const int64_t match = 4 + tokens % 29;
    const int guesses = unlucky.choose(match, 7);
    unlucky.took(1 + guesses, 0.01 * (1 + 0.3 * guesses));
    lost += 0.3 * guesses;
    if (guesses) unlucky.learn(match, guesses, 0);
  }
  CHECK(lost > 0 && lost < 3 + 0.02 * tokens);

  Stakes slow; /* rows cost as much as they are */
  slow.took(1, 0.01);
  for (const int rows : {2, 3, 4, 6, 8}) slow.took(rows, 0.01 * rows);
  CHECK(slow.cost(2) == 2.0 && slow.cost(8) == 8.0 && slow.choose(20, 7) == 0);
  Stakes cheap;
  cheap.took(1, 0.01);
  for (const int rows : {2, 3, 4, 6, 8}) cheap.took(rows, 0.011);
  CHECK(cheap.choose(5, 7) == 7);
  cheap.took(8, 10.0); /* a disturbance counts little */
  CHECK(cheap.cost(8) < 1.3);
}

/* The greatest chi-square of `cells` - 1 degrees of freedom that chance exceeds once in a million times (Wilson-Hilferty). */
double chi_square_limit(int cells) {
  const double k = cells - 1, z = 4.7534, root = 1 - 2 / (9 * k) + z * std::sqrt(2 / (9 * k));
  return k * root * root * root;
}

std::vector<double> probabilities(const Logits &logits, double temperature) {
  std::vector<double> chances;
  double total = 0;
  const float most = *std::max_element(logits.begin(), logits.end());
  for (const float logit : logits) total += chances.emplace_back(std::exp((logit - most) / temperature));
  for (double &chance : chances) chance /= total;
  return chances;
}

/* Two sampled tokens behind a text whose end occurred before, compared with their exact probabilities. */
void sampling(const std::shared_ptr<const Model> &model) {
  constexpr int kTrials = 1500, kRest = 5; /* what the second token is divided by */
  constexpr float kTemperature = 0.5f;
  const Ids part = random_ids(12, 9);
  Pair pair(model, 60, 1);
  const Ids text = joined({part, {17, 4}, part});
  const auto last = static_cast<int64_t>(text.size()) - 1;
  pair.prompt({text.begin(), text.end() - 1});
  const std::vector<double> first = probabilities(pair.next(text.back()), kTemperature);
  std::vector<double> expected(2 * kRest);
  const int32_t guess = 17;
  for (int32_t id = 0; id < kVocab; ++id) {
    Logits logits(kVocab);
    pair.plain.rewind(last + 1);
    pair.plain.evaluate(&id, 1, false, logits.data());
    const std::vector<double> second = probabilities(logits, kTemperature);
    for (int32_t then = 0; then < kVocab; ++then)
      expected[static_cast<size_t>((id == guess) * kRest + then % kRest)] += first[static_cast<size_t>(id)] * second[static_cast<size_t>(then)];
  }
  const ek_sampling settings{kTemperature, 1, 0, 1, 0};
  std::vector<int> counts(expected.size());
  uint64_t random = 1;
  for (int trial = 0; trial < kTrials; ++trial) {
    Logits logits(kVocab);
    Speculation speculation; /* its record is fresh, so it guesses in every trial */
    pair.session.rewind(last);
    speculation.next(pair.session, text.back(), logits.data());
    CHECK(speculation.guessed() > 0);
    const int32_t id = sample(logits.data(), kVocab, settings, nullptr, random);
    speculation.next(pair.session, id, logits.data());
    CHECK(speculation.accepted() == (id == guess));
    const int32_t then = sample(logits.data(), kVocab, settings, nullptr, random);
    ++counts[static_cast<size_t>((id == guess) * kRest + then % kRest)];
  }
  double chi_square = 0;
  int cells = 0;
  double rare = 0, rare_count = 0; /* cells with few expected trials count as one */
  for (size_t i = 0; i < counts.size(); ++i) {
    const double trials = expected[i] * kTrials;
    if (trials < 10) {
      rare += trials;
      rare_count += counts[i];
      continue;
    }
    chi_square += (counts[i] - trials) * (counts[i] - trials) / trials;
    ++cells;
  }
  if (rare >= 10) chi_square += (rare_count - rare) * (rare_count - rare) / rare, ++cells;
  CHECK(cells > 4 && chi_square < chi_square_limit(cells));
}

}  // namespace

int main() {
  const SmallArtifact artifact;
  const std::shared_ptr<const Model> model = artifact.open();
  repeated_text(model);
  greedy(model);
  changes(model);
  draft(model);
  stakes();
  sampling(model);
  return finish("speculation_test");
}
