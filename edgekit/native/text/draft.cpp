#include "draft.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <utility>

#include "../src/error.h"
#include "../src/session.h"
#include "../src/work.h"
#include "speculation.h"

namespace ek {
namespace {

using Clock = std::chrono::steady_clock;

/* The distances of logits that separate the kinds, and of each kind: guesses that were right, of 8 that were tried. */
constexpr float kDistances[] = {0.5f, 1, 2, 4};
constexpr double kFirstRight[] = {2.5, 3.5, 4.5, 6, 7.5}, kTried = 8, kMostTried = 64;
constexpr double kFirstMean = 0.7;  /* the chance of a guess before any was made */
constexpr double kNewMean = 0.05, kNewCost = 0.1; /* the weights of a new measurement */
constexpr double kForget = 0.01;    /* the weight of kFirstMean, whenever no guess is made: after some 100 they are tried again */
constexpr double kLeastGain = 1.05; /* tokens for the time of one: fewer are not worth the risk */
constexpr double kReadCost = 0.4;   /* of a token that is read together with others, in tokens read alone */
constexpr int64_t kPiece = 128;     /* tokens that are read between two looks at a cancellation */

/* A call of the target uses the draft's session, too. */
class Used {
 public:
  explicit Used(const Session &session) : usage_(session.usage()) {
    if (!usage_.begin()) fail(EK_BUSY, "another call uses the session of the draft model; a draft model serves one session at a time");
  }
  ~Used() { usage_.end(); }
  Used(const Used &) = delete;
  Used &operator=(const Used &) = delete;

 private:
  Usage &usage_;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

Draft::Draft(std::shared_ptr<Session> session, const Session &target)
    : held_(std::move(session)),
      session_(*held_),
      logits_(static_cast<size_t>(session_.model().vocab_size)),
      mean_(kFirstMean),
      cost_(static_cast<double>(token_bytes(session_.model())) / static_cast<double>(token_bytes(target.model()))) {
  for (size_t i = 0; i < records_.size(); ++i) records_[i] = {kFirstRight[i], kTried};
}

/* Whether some number of guesses is expected to pay, and a loss can be afforded. lag: the cost of the text to be read first. */
bool Draft::pays(int64_t most, double lag, const Stakes &stakes) const {
  double tokens = 1, each = 1;
  for (int count = 1; count <= most; ++count) {
    tokens += each *= mean_;
    const double cost = stakes.cost(count + 1) + count * cost_ + lag;
    if (tokens > kLeastGain * cost && stakes.affords(cost - 1)) return true;
  }
  return false;
}

/* Towards the first records: guesses that did not pay may do so later. */
void Draft::skip() {
  mean_ += kForget * (kFirstMean - mean_);
  for (size_t i = 0; i < records_.size(); ++i) {
    records_[i].right += kForget * (kFirstRight[i] - records_[i].right);
    records_[i].tried += kForget * (kTried - records_[i].tried);
  }
}

void Draft::evaluate(const int32_t *ids, int64_t count) { session_.evaluate(ids, count, false, logits_.data()); }

/* Bring the draft's session up to the text. false: it has a token that the draft model does not know. */
bool Draft::read(const Session &target, int32_t id, Stakes &stakes) {
  std::vector<int32_t> text = target.ids();
  text.push_back(id);
  const std::vector<int32_t> &held = session_.ids();
  const auto same = std::mismatch(held.begin(), held.begin() + static_cast<int64_t>(std::min(held.size(), text.size() - 1)), text.begin());
  int64_t at = same.first - held.begin();
  const auto vocabulary = static_cast<int32_t>(session_.model().vocab_size);
  if (std::any_of(text.begin() + at, text.end(), [&](int32_t each) { return each >= vocabulary; })) return false;
  session_.rewind(at);
  for (const auto size = static_cast<int64_t>(text.size()); at < size;) {
    const int64_t end = at < prompt_ ? std::min({at + kPiece, size, prompt_}) : std::min(at + kPiece, size);
    const Clock::time_point start = Clock::now();
    evaluate(text.data() + at, end - at);
    if (at >= prompt_) spent_ += stakes.in_rows(seconds_since(start), static_cast<double>(end - at) * cost_);
    at = end;
    if (target.usage().cancelled()) fail(EK_CANCELLED, "the evaluation was cancelled");
  }
  return true;
}

/* The id of the largest logit, and the kind of the guess that it is. */
int Draft::kind_of_best(int32_t &best) const {
  float first = logits_[0], second = -INFINITY;
  best = 0;
  for (size_t i = 1; i < logits_.size(); ++i) {
    if (logits_[i] <= second) continue;
    if (logits_[i] > first) {
      second = first, first = logits_[i];
      best = static_cast<int32_t>(i);
    } else {
      second = logits_[i];
    }
  }
  return static_cast<int>(std::upper_bound(std::begin(kDistances), std::end(kDistances), first - second) - std::begin(kDistances));
}

void Draft::guess(const Session &target, int32_t id, int64_t most, Stakes &stakes, std::vector<int32_t> &out) {
  kinds_.clear();
  spent_ = rows_cost_ = 0;
  most = std::min(most, session_.context() - target.position() - 1);
  const int64_t unread = target.position() - std::max(session_.position(), prompt_);
  const double lag = unread > 0 ? static_cast<double>(unread) * kReadCost * cost_ : 0;
  if (most < 1 || !pays(most, lag, stakes)) return skip();
  const Used used(session_);
  if (!read(target, id, stakes)) return skip();
  double each = 1, tokens = 1, best_rate = 0;
  size_t chosen = 0;
  for (std::vector<int32_t> guesses;;) {
    int32_t best;
    const int kind = kind_of_best(best);
    if (best >= target.model().vocab_size) break;
    const double chance = records_[static_cast<size_t>(kind)].chance();
    mean_ += kNewMean * (chance - mean_);
    guesses.push_back(best);
    out.push_back(best);
    kinds_.push_back(kind);
    tokens += each *= chance;
    const auto count = static_cast<int>(guesses.size());
    const double rate = tokens / (stakes.cost(count + 1) + spent_);
    if (rate > best_rate) best_rate = rate, chosen = guesses.size();
    const double more = cost_ + stakes.cost(std::min(count + 2, kMostGuesses + 1)) - stakes.cost(count + 1);
    if (count == most || each * mean_ < more * std::max(rate, 1.0)) break;
    const Clock::time_point start = Clock::now();
    evaluate(&best, 1);
    const double cost = stakes.in_rows(seconds_since(start), cost_);
    spent_ += cost;
    cost_ += kNewCost * (std::min(cost, 3 * cost_) - cost_);
  }
  if (best_rate * (1 + spent_) <= 1) chosen = 0; /* the row alone is the better choice by now */
  out.resize(out.size() - kinds_.size() + chosen);
  kinds_.resize(chosen);
  rows_cost_ = stakes.cost(static_cast<int>(chosen) + 1) - 1;
  if (!chosen) stakes.gained(-spent_);
}

void Draft::learn(int right, Stakes &stakes) {
  for (size_t i = 0; i < kinds_.size() && i <= static_cast<size_t>(right); ++i) {
    Record &record = records_[static_cast<size_t>(kinds_[i])];
    record.right += i < static_cast<size_t>(right);
    if (++record.tried > kMostTried) record = {record.right * kMostTried / record.tried, kMostTried};
  }
  stakes.gained(right - rows_cost_ - spent_);
}

}  // namespace ek
