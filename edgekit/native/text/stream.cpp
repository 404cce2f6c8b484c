#include "stream.h"

#include <algorithm>

#include "tokenizer.h"
#include "unicode.h"

namespace ek {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

void TextStream::push(int32_t id, std::string &out) {
  if (is_silent(*tables_, id)) return;
  held_.append(tables_->token(static_cast<uint32_t>(id)));
  const auto *bytes = reinterpret_cast<const uint8_t *>(held_.data());
  size_t last = 0; /* the start of the last character */
  bool replaced = false;
  for (size_t at = 0; at < held_.size();) {
    const Utf8Step step = utf8_step(bytes + at, held_.size() - at);
    last = at;
    replaced = !step.valid || std::string_view(held_).substr(at, step.length) == kReplacement;
    at += step.length;
  }
  const size_t final_size = replaced ? last : held_.size();
  append_replaced(std::string_view(held_).substr(0, final_size), out);
  held_.erase(0, final_size);
}

void TextStream::flush(std::string &out) {
  append_replaced(held_, out);
  held_.clear();
}

StopTexts::StopTexts(std::vector<std::string> texts) : texts_(std::move(texts)) {
  texts_.erase(std::remove(texts_.begin(), texts_.end(), std::string()), texts_.end());
}

std::string StopTexts::push(std::string_view text) {
  if (found_) return {};
  if (texts_.empty()) return std::string(text);
  held_.append(text);
  size_t first = std::string::npos, most = 0;
  for (const std::string &stop : texts_) {
    first = std::min(first, held_.find(stop));
    most = std::max(most, overlap(held_, stop));
  }
  found_ = first != std::string::npos;
  const size_t end = found_ ? first : held_.size() - most;
  const std::string before = held_.substr(0, end);
  held_.erase(0, found_ ? held_.size() : end);
  return before;
}

std::string StopTexts::flush() {
  std::string rest;
  rest.swap(held_);
  return rest;
}

size_t overlap(std::string_view text, std::string_view whole) {
  for (size_t size = std::min(text.size(), whole.size() - 1); size; --size)
    if (text.substr(text.size() - size) == whole.substr(0, size)) return size;
  return 0;
}

}  // namespace ek
