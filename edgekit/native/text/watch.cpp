#include "watch.h"

#include <algorithm>
#include <cinttypes>

#include "../src/error.h"
#include "thought.h"

namespace ek {
namespace {

constexpr int kThoughtQuarters = 4, kAnswerQuarters = 16; /* of the limits in loop_detector.h: a user may ask for repetitions */
constexpr int64_t kAgain = 2048;                          /* tokens after which a loop is a new one */
constexpr int64_t kShortestEscape = 48, kLongestEscape = 128;
constexpr float kFirstPenalty = 1.2f, kLastPenalty = 1.8f;

}  // namespace

Watch::Watch(int64_t thought_tokens, int32_t guard, bool inside) : most_(thought_tokens), guard_(guard), inside_(inside) {
  if (thought_tokens < 0) fail(EK_BAD_ARGUMENT, "the limit of a thought is %" PRId64 " tokens; allowed: 0 (no limit) or more", thought_tokens);
  if (guard < EK_GUARD_THOUGHT || guard > EK_GUARD_ALL)
    fail(EK_BAD_ARGUMENT, "the loop guard is %d; allowed: 0 (thoughts), 1 (off) and 2 (thoughts and answers)", guard);
  if (guard == EK_GUARD_ALL || (guard == EK_GUARD_THOUGHT && inside))
    detector_ = std::make_unique<LoopDetector>(quarters(inside));
}

int Watch::quarters(bool in_thought) const {
  const int all = in_thought ? kThoughtQuarters : kAnswerQuarters;
  return loops_ && since_loop_ < kAgain ? all / 2 : all;
}

ek_watch_action Watch::push(int32_t token, bool in_thought) {
  if (in_thought != inside_) { /* what a thought said may be said once more in the answer */
    detector_.reset();
    if (guard_ == EK_GUARD_ALL || (guard_ == EK_GUARD_THOUGHT && in_thought)) detector_ = std::make_unique<LoopDetector>(quarters(in_thought));
    escape_left_ = 0;
    due_ = EK_WATCH_GO_ON;
  } else if (in_thought) {
    ++thought_tokens_;
  }
  inside_ = in_thought;
  if (due_ != EK_WATCH_GO_ON) return due_;
  if (in_thought && most_ && thought_tokens_ >= most_) return due_ = EK_WATCH_CLOSE_SPENT;
  return due_ = look_for_loops(token, in_thought);
}

ek_watch_action Watch::look_for_loops(int32_t token, bool in_thought) {
  if (!detector_) return EK_WATCH_GO_ON;
  if (escape_left_) --escape_left_;
  if (loops_ && ++since_loop_ == kAgain) detector_->set_quarters(quarters(in_thought));
  if (!detector_->push(token)) return EK_WATCH_GO_ON;
  const bool again = loops_ && since_loop_ < kAgain;
  ++loops_;
  since_loop_ = 0;
  if (again) {
    escape_left_ = 0;
    return in_thought ? EK_WATCH_CLOSE_LOOP : EK_WATCH_END;
  }
  penalized_ = detector_->tokens();
  escape_ = escape_left_ = std::clamp(2 * detector_->period(), kShortestEscape, kLongestEscape);
  detector_->restart(quarters(in_thought));
  return EK_WATCH_GO_ON;
}

void Watch::adjust(float *logits, int64_t n) const {
  if (!escape_left_) return;
  const float done = static_cast<float>(escape_ - escape_left_) / static_cast<float>(escape_);
  const float penalty = kFirstPenalty + (kLastPenalty - kFirstPenalty) * done;
  for (const int32_t id : penalized_)
    if (id >= 0 && id < n) logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
}

std::string thought_closing(ek_watch_action action, std::string_view text) {
  std::string closing;
  if (!text.empty()) closing = text.back() != '\n' ? "\n\n" : text.size() > 1 && text[text.size() - 2] == '\n' ? "" : "\n";
  closing.append(action == EK_WATCH_CLOSE_LOOP ? "I am going in circles, so I will answer with what I have."
                                               : "I have thought about this for long enough, so I will answer now.");
  return closing.append("\n").append(kThinkClose).append("\n\n");
}

}  // namespace ek
