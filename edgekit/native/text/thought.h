/* Separates a reasoning model's thought from its answer, as edgekit/runtime/thought.py does. */
#ifndef EDGEKIT_TEXT_THOUGHT_H
#define EDGEKIT_TEXT_THOUGHT_H

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ek {

constexpr std::string_view kThinkOpen = "<think>", kThinkClose = "</think>";

struct Piece {
  std::string text; /* whole characters, never empty */
  bool thought;
};

/* Splits streamed text into thought and answer. The tags and the white space around them belong to neither. */
class ThoughtSplitter {
 public:
  /* inside: whether the prompt ended with an open thought. */
  explicit ThoughtSplitter(bool inside) : state_(inside ? State::kThought : State::kStart) {}
  /* Append the pieces that are final. */
  void push(std::string_view text, std::vector<Piece> &pieces);
  /* End the output: append the text that was held back. */
  void flush(std::vector<Piece> &pieces);
  bool in_thought() const { return state_ == State::kThought; }

 private:
  enum class State {
    kStart,   /* before the first visible character */
    kThought, /* inside the thought */
    kGap,     /* blank lines between thought and answer */
    kAnswer
  };
  bool step(std::vector<Piece> &pieces);
  bool step_thought(std::vector<Piece> &pieces);
  bool emit(std::vector<Piece> &pieces, size_t length, bool thought);

  State state_;
  std::string held_;
  bool begun_ = false; /* whether part of the thought was returned */
};

/* The position behind the thought that opens an earlier answer, or npos if there is none; the text's length if the thought never
 * ends. `opened`: the template ends a prompt inside a thought; `whole`: the text is everything that the model wrote. */
size_t thought_end(std::string_view text, bool opened, bool whole);

}  // namespace ek

#endif
