/* Finds out whether a sequence of tokens repeats itself, one token at a time, in constant time and memory.
 *
 * A sequence loops if one of three rules holds. The limits are for thoughts; LoopLimits scales them.
 *
 *   exact   its end is one block of p tokens repeated, over at least 256 + 4 p tokens
 *   near    the same with one token in 20 replaced, over at least 1536 + 24 p tokens
 *   stale   of its last 384 tokens, 97 % end a sequence of 8 tokens that occurred three times before: whatever their order
 *           and distance, they add nothing
 *
 * Each limit lets something pass that people write. Blocks with fewer than 8 different tokens, such as a grid of zeros, a row of
 * dashes or an array of numbers, need 256 tokens more. Lists, tables and records repeat their form and change their contents: a
 * row in which more than one token in 20 changes is not a repetition, and each change makes the 8 sequences that hold it new. A
 * quotation, a refrain, or a program that is written out once more occurred fewer than three times. Windows with fewer than 24
 * different tokens are never stale: grids and truth tables have few sequences of 8 tokens. */
#ifndef EDGEKIT_TEXT_LOOP_DETECTOR_H
#define EDGEKIT_TEXT_LOOP_DETECTOR_H

#include <cstdint>
#include <vector>

namespace ek {

class LoopDetector {
 public:
  /* quarters: the number of tokens that the rules need, in quarters of those above. */
  explicit LoopDetector(int quarters = 4);

  /* Add a token. true: the sequence loops. */
  bool push(int32_t token);

  /* Forget the repetitions so far, so that a rule must hold over new tokens, but not which sequences occurred. */
  void restart(int quarters);
  void set_quarters(int quarters) { quarters_ = quarters; }

  /* The tokens of the repetition, newest first, each once: of one period, or of the window of the rule "stale". */
  std::vector<int32_t> tokens() const;
  /* The period of the repetition; 0: there is none, or none that was found. */
  int64_t period() const;

 private:
  /* Compares the sequence with itself, `period` tokens before. */
  struct Comparison {
    int64_t period = 0; /* 0: none */
    int64_t length = 0; /* tokens compared */
    int64_t misses = 0; /* of these, different ones */
    bool measured = false, few = false; /* whether the block has few different tokens, once that was looked at */
  };
  struct Slot {
    uint32_t position; /* behind the last occurrence of a sequence of kGram tokens; 0: none */
    uint16_t tag, count;
  };

  int32_t before(int64_t distance) const; /* the token `distance` tokens before the newest */
  Slot *find_gram();                      /* the slot of the last kGram tokens, which then holds them */
  void compare(Comparison &comparison, int64_t allowed_misses, int64_t distance);
  bool long_enough(Comparison &comparison, int64_t base, int64_t periods);
  bool add_to_window(bool old_gram);

  int quarters_;
  int64_t count_ = 0; /* tokens pushed */
  Comparison exact_, near_;
  int64_t stale_ = 0, different_ = 0, window_ = 0, stale_for_ = 0;
  std::vector<int32_t> history_;
  std::vector<Slot> slots_;
  std::vector<uint8_t> is_stale_;     /* (window) */
  std::vector<uint16_t> occurrences_; /* in the window, of ids by hash */
};

}  // namespace ek

#endif
