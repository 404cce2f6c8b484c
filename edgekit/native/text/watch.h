/* Watches an answer while it is generated: limits its thought, and gets it out of loops (loop_detector.h).
 *
 * In a loop, the tokens of the loop first become less likely: for 48 to 128 tokens their logits are divided by a penalty that
 * grows from 1.2 to 1.8 (multiplied if they are negative), as a repetition penalty does. If the text loops again within 2048
 * tokens, for which half as much repetition is enough, the thought is closed; an answer ends. */
#ifndef EDGEKIT_TEXT_WATCH_H
#define EDGEKIT_TEXT_WATCH_H

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "edgekit_text.h"
#include "loop_detector.h"

namespace ek {

class Watch {
 public:
  /* thought_tokens: the most tokens of a thought; 0: no limit. guard: an ek_loop_guard. inside: whether the prompt opened a
   * thought. Throws Error(EK_BAD_ARGUMENT). */
  Watch(int64_t thought_tokens, int32_t guard, bool inside);

  /* Add a generated token. in_thought: whether the thought goes on after it. Asks for the same action after each further token
   * until the thought has ended. */
  ek_watch_action push(int32_t token, bool in_thought);
  /* Make the tokens of a loop less likely, as long as that is due. */
  void adjust(float *logits, int64_t n) const;
  bool adjusts() const { return escape_left_ > 0; }
  int64_t loops() const { return loops_.load(std::memory_order_relaxed); } /* of any thread */

 private:
  ek_watch_action look_for_loops(int32_t token, bool in_thought);
  int quarters(bool in_thought) const;

  int64_t most_;
  int32_t guard_;
  bool inside_;
  ek_watch_action due_ = EK_WATCH_GO_ON;
  int64_t thought_tokens_ = 0, since_loop_ = 0;
  std::atomic<int64_t> loops_ = 0;
  int64_t escape_ = 0, escape_left_ = 0; /* tokens whose logits are changed: all, and the rest */
  std::vector<int32_t> penalized_;
  std::unique_ptr<LoopDetector> detector_; /* of the thought, then of the answer; null: not guarded */
};

/* What closes a thought that ends in `text`: a sentence as models write it, the closing tag, a blank line. */
std::string thought_closing(ek_watch_action action, std::string_view text);

}  // namespace ek

#endif
