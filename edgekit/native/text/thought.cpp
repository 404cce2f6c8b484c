#include "thought.h"

#include "stream.h"
#include "unicode.h"

namespace ek {
namespace {

constexpr auto kNone = std::string_view::npos;

bool starts_with(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

void strip_leading(std::string &text) { text.erase(0, text.size() - without_leading_space(text).size()); }

/* Where Python's str.splitlines ends a line. */
bool ends_line(uint32_t code) {
  return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 || code == 0x2029;
}

/* Whether what follows a tag that is behind a word is a line's end, the text's end, or the answer's first word: the pattern
 * \s*\n|\s*\Z|[^\s`'")\]}<]. */
bool ends_thought_behind_word(std::string_view after) {
  const std::string_view rest = without_leading_space(after);
  const std::string_view space = after.substr(0, after.size() - rest.size());
  if (rest.empty() || space.find('\n') != kNone) return true;
  return space.empty() && std::string_view("`'\")]}<").find(rest[0]) == kNone;
}

/* [ \t]*\n[ \t]*\n|\s*\Z */
bool ends_thought_on_own_line(std::string_view after) {
  if (without_leading_space(after).empty()) return true;
  for (int line = 0; line < 2; ++line) {
    const size_t end = after.find_first_not_of(" \t");
    if (end == kNone || after[end] != '\n') return false;
    after.remove_prefix(end + 1);
  }
  return true;
}

/* Whether the closing tag stands as models write it. */
bool closes(std::string_view before, std::string_view after) {
  if (before.empty() || before.back() == '\n') return ends_thought_on_own_line(after);
  const bool behind_space = without_trailing_space(before).size() != before.size();
  const bool behind_word = !behind_space && std::string_view("`'\"([{<>").find(before.back()) == kNone;
  return behind_word && ends_thought_behind_word(after);
}

/* Whether a place is inside a block or a span of Markdown's code, given the text before it. */
bool in_code(std::string_view before) {
  size_t fences = 0;
  for (std::string_view rest = before; !rest.empty();) {
    size_t end = 0;
    while (end < rest.size() && !ends_line(first_code(rest.substr(end)))) end += first_length(rest.substr(end));
    const std::string_view line = without_leading_space(rest.substr(0, end));
    fences += starts_with(line, "```") || starts_with(line, "~~~");
    if (end < rest.size()) end += first_length(rest.substr(end));
    rest.remove_prefix(end);
  }
  size_t ticks = 0;
  const size_t newline = before.rfind('\n');
  for (const char c : newline == kNone ? before : before.substr(newline + 1)) ticks += c == '`';
  return fences % 2 == 1 || ticks % 2 == 1;
}

}  // namespace

void ThoughtSplitter::push(std::string_view text, std::vector<Piece> &pieces) {
  held_.append(text);
  while (step(pieces)) {
  }
}

void ThoughtSplitter::flush(std::vector<Piece> &pieces) {
  std::string held;
  held.swap(held_);
  const bool thought = state_ == State::kThought;
  if (held.empty() || state_ == State::kGap || (thought && without_leading_space(held).empty())) return;
  pieces.push_back({held, thought});
}

bool ThoughtSplitter::step(std::vector<Piece> &pieces) {
  if (state_ == State::kAnswer) return emit(pieces, held_.size(), false);
  if (state_ == State::kThought) return step_thought(pieces);
  if (state_ == State::kGap) {
    strip_leading(held_);
    if (!held_.empty()) state_ = State::kAnswer;
    return !held_.empty();
  }
  const std::string_view visible = without_leading_space(held_);
  if (starts_with(visible, kThinkOpen)) {
    held_.erase(0, held_.size() - visible.size() + kThinkOpen.size());
    state_ = State::kThought;
    return true;
  }
  if (starts_with(kThinkOpen, visible)) return false; /* also if nothing is visible yet */
  state_ = State::kAnswer;
  return true;
}

bool ThoughtSplitter::step_thought(std::vector<Piece> &pieces) {
  if (!begun_) strip_leading(held_);
  const size_t tag = held_.find(kThinkClose);
  if (tag != std::string::npos) {
    const std::string rest = held_.substr(tag + kThinkClose.size());
    emit(pieces, without_trailing_space(std::string_view(held_).substr(0, tag)).size(), true);
    held_ = rest;
    state_ = State::kGap;
    return true;
  }
  /* Hold back white space and what may be the beginning of the tag. */
  const size_t end = held_.size() - overlap(held_, kThinkClose);
  emit(pieces, without_trailing_space(std::string_view(held_).substr(0, end)).size(), true);
  return false;
}

bool ThoughtSplitter::emit(std::vector<Piece> &pieces, size_t length, bool thought) {
  if (!length) return false;
  pieces.push_back({held_.substr(0, length), thought});
  held_.erase(0, length);
  begun_ = true;
  return true;
}

size_t thought_end(std::string_view text, bool opened, bool whole) {
  const size_t close = text.find(kThinkClose);
  const size_t end = close == kNone ? text.size() : close + kThinkClose.size();
  if (starts_with(without_leading_space(text), kThinkOpen)) return end;
  if (opened && whole) return end; /* also if the answer ended before the thought did */
  if (!opened || close == kNone) return kNone;
  const std::string_view before = text.substr(0, close);
  return closes(before, text.substr(end)) && before.find(kThinkOpen) == kNone && !in_code(before) ? end : kNone;
}

}  // namespace ek
