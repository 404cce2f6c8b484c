/* Guesses the next tokens of a text from what followed the same tokens earlier in it: in the prompt, the thought or the answer.
 *
 * An index finds the earlier places that end with the same kGram tokens. If the longest of these matches has kLongMatch tokens or
 * more, the guess is what followed it. Otherwise the places vote: of several places, a guess needs two, and more than half. */
#ifndef EDGEKIT_TEXT_LOOKUP_H
#define EDGEKIT_TEXT_LOOKUP_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ek {

/* Grams of 4 leave out short matches, which are often right in a thought: of 500 tokens about a problem of mathematics
 * (Qwen2.5-Coder-1.5B, temperature 0.6), 111 are guessed with grams of 4 and 159 with grams of 2, by replaying the text. */
constexpr int64_t kGram = 2, kLongMatch = 8;
constexpr int64_t kMostMatch = 32; /* tokens that are compared */

class Lookup {
 public:
  Lookup();
  void clear();
  void add(int32_t id);
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }

  /* Append at most `most` guesses to `out`, and return the length of the match that they follow, at most kMostMatch; 0: there
   * are no guesses. */
  int64_t guess(int64_t most, std::vector<int32_t> &out) const;

 private:
  uint32_t hash_of_end() const;
  int64_t match(int64_t end) const;
  int32_t id_at(int64_t at, const std::vector<int32_t> &out, size_t guesses) const;
  void vote(std::vector<int64_t> &ends, int64_t most, std::vector<int32_t> &out) const;

  std::vector<int32_t> ids_;
  std::vector<int32_t> latest_;   /* by hash: the last place whose gram has it, or -1. A place is the index behind the gram */
  std::vector<int32_t> previous_; /* by place: the place before with the same hash, or -1 */
};

}  // namespace ek

#endif
