/* Text that arrives in pieces: from ids to whole characters, and the search for texts that end an answer. They do what
 * edgekit/runtime/text_stream.py and stop_text.py do. */
#ifndef EDGEKIT_TEXT_STREAM_H
#define EDGEKIT_TEXT_STREAM_H

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tables.h"

namespace ek {

/* Decodes ids one by one. Text is returned when no later id can change it. */
class TextStream {
 public:
  explicit TextStream(std::shared_ptr<const Tables> tables) : tables_(std::move(tables)) {}
  /* Append the text that has become final. */
  void push(int32_t id, std::string &out);
  /* End the answer: append the text that was held back. */
  void flush(std::string &out);
  /* Whether no character is incomplete. */
  bool is_whole() const { return held_.empty(); }

 private:
  std::shared_ptr<const Tables> tables_;
  std::string held_; /* bytes of the last character, if it is incomplete or U+FFFD */
};

/* Looks for stop texts. What may be the beginning of one is held back. */
class StopTexts {
 public:
  explicit StopTexts(std::vector<std::string> texts);
  /* The text that comes before a stop text, as far as that is known; nothing after one was found. */
  std::string push(std::string_view text);
  /* End the answer: the text that was held back. */
  std::string flush();
  bool found() const { return found_; }

 private:
  std::vector<std::string> texts_;
  std::string held_;
  bool found_ = false;
};

/* The length of the longest end of `text` that is a beginning of `whole` and not all of it. */
size_t overlap(std::string_view text, std::string_view whole);

}  // namespace ek

#endif
