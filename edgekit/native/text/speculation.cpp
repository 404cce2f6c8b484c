#include "speculation.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "../src/session.h"

namespace ek {
namespace {

constexpr double kLeastGain = 1.05;    /* tokens for the time of one: fewer are not worth the risk */
constexpr double kLeastShortGain = 1.1; /* the same behind a match that is not long */
constexpr double kFirstBalance = 2, kMostBalance = 8, kAllowance = 0.015; /* for each evaluation of one row */
constexpr double kForget = 0.98;       /* of a record, whenever its guesses are not tried: after some 50 they are again */
constexpr double kMostTried = 48;      /* tokens that a record remembers */
constexpr double kNewCost = 0.1;       /* the weight of a new measurement */
constexpr double kForgetCost = 0.002;  /* the weight of the first cost, whenever a number of guesses is not chosen */
constexpr int kGuesses[] = {1, 3, 5, 7}; /* kernels take two rows, or four */
/* Of matches below 6, 8, and 16 tokens, and of longer ones: guesses that were right, of 8 that were tried. */
constexpr double kFirstRight[] = {4, 5, 6, 7};

/* What rows are taken to cost until it is measured. */
double first_cost(int rows) { return 1 + 0.2 * (rows - 1); }

}  // namespace

Stakes::Stakes() : balance_(kFirstBalance) {
  for (size_t i = 0; i < records_.size(); ++i) records_[i] = {kFirstRight[i], 8};
  for (size_t rows = 1; rows < costs_.size(); ++rows) costs_[rows] = first_cost(static_cast<int>(rows));
}

int Stakes::kind_of(int64_t match) { return match < 6 ? 0 : match < kLongMatch ? 1 : match < 16 ? 2 : 3; }

int Stakes::choose(int64_t match, int64_t most) {
  Record &record = records_[static_cast<size_t>(kind_of(match))];
  const double chance = record.right / record.tried;
  double best = match < kLongMatch ? kLeastShortGain : kLeastGain;
  int chosen = 0;
  for (const int count : kGuesses) {
    if (count > most || cost(count + 1) - 1 > balance_) break;
    double tokens = 1, each = 1;
    for (int i = 0; i < count; ++i) tokens += each *= chance;
    const double gain = tokens / cost(count + 1);
    if (gain > best) best = gain, chosen = count;
  }
  for (const int count : kGuesses) /* towards the first costs: a measurement may have been disturbed */
    if (count != chosen) costs_[static_cast<size_t>(count) + 1] += kForgetCost * (first_cost(count + 1) - cost(count + 1));
  if (!chosen) { /* towards the first record */
    record.right = record.right * kForget + kFirstRight[kind_of(match)] * (1 - kForget);
    record.tried = record.tried * kForget + 8 * (1 - kForget);
  }
  return chosen;
}

void Stakes::learn(int64_t match, int guesses, int right) {
  Record &record = records_[static_cast<size_t>(kind_of(match))];
  record.right += right;
  record.tried += right + (right < guesses);
  gained(right - (cost(guesses + 1) - 1));
  if (record.tried > kMostTried) {
    record.right *= kMostTried / record.tried;
    record.tried = kMostTried;
  }
}

void Stakes::gained(double rows) { balance_ = std::min(balance_ + rows, kMostBalance); }

void Stakes::took(int rows, double seconds) {
  if (rows == 1) {
    balance_ = std::min(balance_ + kAllowance, kMostBalance);
    one_seconds_ = one_seconds_ > 0 ? one_seconds_ + kNewCost * (std::min(seconds, 3 * one_seconds_) - one_seconds_) : seconds;
    return;
  }
  if (one_seconds_ <= 0) return;
  const auto i = static_cast<size_t>(rows);
  const double cost = std::max(seconds / one_seconds_, 1.0);
  costs_[i] = measured_[i] ? costs_[i] + kNewCost * (std::min(cost, 2 * costs_[i]) - costs_[i]) : std::min(cost, 1.0 * rows);
  measured_[i] = true;
}

void Speculation::next(Session &session, int32_t id, float *logits) {
  const auto vocabulary = static_cast<size_t>(session.model().vocab_size);
  const bool as_known = session.changes() == changes_ && lookup_.size() == session.position();
  if (as_known && session.confirm(id)) {
    lookup_.add(id);
    ++right_;
    ++accepted_;
    std::memcpy(logits, &logits_[static_cast<size_t>(right_) * vocabulary], vocabulary * sizeof(float));
    return;
  }
  settle();
  if (!as_known) follow(session);
  lookup_.add(id);
  try {
    evaluate(session, id, logits);
  } catch (...) {
    changes_ = -1; /* the lookup has an id more than the session */
    throw;
  }
}

/* Learn what became of the last guesses. */
void Speculation::settle() {
  const auto guesses = static_cast<int>(ids_.size()) - 1, right = static_cast<int>(right_);
  if (guesses > 0) drafted_ ? draft_->learn(right, stakes_) : stakes_.learn(match_, guesses, right);
  ids_.clear();
  right_ = 0;
}

/* Read the ids of the session that the lookup does not know. */
void Speculation::follow(const Session &session) {
  if (session.changes() != changes_ || lookup_.size() > session.position()) lookup_.clear();
  for (int64_t i = lookup_.size(); i < session.position(); ++i) lookup_.add(session.ids()[static_cast<size_t>(i)]);
  changes_ = session.changes();
  if (draft_) draft_->prompt(session.position());
}

void Speculation::set_draft(std::shared_ptr<Session> draft, const Session &session) {
  settle();
  changes_ = -1; /* guesses that have not been used are dropped */
  draft_.reset();
  if (draft) draft_.emplace(std::move(draft), session);
}

void Speculation::evaluate(Session &session, int32_t id, float *logits) {
  using Clock = std::chrono::steady_clock;
  std::vector<int32_t> ids{id};
  const int64_t room = session.context() - session.position() - 1;
  match_ = lookup_.guess(std::min<int64_t>(kMostGuesses, room), ids);
  const auto found = static_cast<int64_t>(ids.size()) - 1;
  ids.resize(static_cast<size_t>(1 + (found ? stakes_.choose(match_, found) : 0)));
  drafted_ = draft_ && ids.size() == 1;
  if (drafted_) draft_->guess(session, id, std::min<int64_t>(kMostGuesses, room), stakes_, ids);
  const auto vocabulary = static_cast<size_t>(session.model().vocab_size);
  if (ids.size() > 1 && logits_.empty()) logits_.resize((kMostGuesses + 1) * vocabulary);
  const Clock::time_point start = Clock::now();
  if (ids.size() > 1)
    session.evaluate_ahead(ids.data(), static_cast<int64_t>(ids.size()), logits_.data());
  else
    session.evaluate(ids.data(), 1, false, logits);
  stakes_.took(static_cast<int>(ids.size()), std::chrono::duration<double>(Clock::now() - start).count());
  if (ids.size() > 1) std::memcpy(logits, logits_.data(), vocabulary * sizeof(float));
  guessed_ += static_cast<int64_t>(ids.size()) - 1;
  ids_ = std::move(ids);
}

}  // namespace ek
