#include "words.h"

#include "unicode.h"

namespace ek {
namespace {

using Bytes = const uint8_t *;

/* The kinds of ASCII characters: white space, digits, letters. */
struct AsciiKinds {
  uint8_t kinds[128] = {};
  constexpr AsciiKinds() {
    for (int c = 9; c <= 13; ++c) kinds[c] = kSpace;
    kinds[32] = kSpace;
    for (int c = '0'; c <= '9'; ++c) kinds[c] = kNumber;
    for (int c = 'A'; c <= 'Z'; ++c) kinds[c] = kinds[c + 32] = kLetter;
  }
};
constexpr AsciiKinds kAscii;

inline uint8_t kind_at(Bytes at) { return *at < 0x80 ? kAscii.kinds[*at] : properties(code_at(at)) & kKindBits; }

inline Bytes skip(Bytes at, Bytes end, uint8_t kind) {
  while (at < end && kind_at(at) == kind) at += utf8_length(*at);
  return at;
}

inline bool is_newline(uint8_t byte) { return byte == '\r' || byte == '\n'; }

/* The length of 's, 't, 're, 've, 'm, 'll or 'd, or 0. Without regard to case, U+017F (long s) is an s. */
int contraction(Bytes at, Bytes end, bool any_case) {
  const auto letter = [&](int64_t index) -> int {
    if (end - at <= index) return 0;
    const uint8_t byte = at[index];
    return any_case && byte >= 'A' && byte <= 'Z' ? byte + 32 : byte;
  };
  if (*at != '\'') return 0;
  const int first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  return any_case && first == 0xC5 && second == 0xBF ? 3 : 0;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ if `newlines`, otherwise \s+(?!\S)|\s+. */
Bytes space_end(Bytes at, Bytes end, bool newlines) {
  Bytes next = at, last = at, after_newline = nullptr;
  while (next < end && kind_at(next) == kSpace) {
    last = next;
    next += utf8_length(*next);
    if (is_newline(*last)) after_newline = next;
  }
  if (newlines && after_newline) return after_newline;
  return next == end || last == at ? next : last;
}

Bytes cl100k_end(Bytes at, Bytes end, int numbers) {
  if (const int length = contraction(at, end, true)) return at + length;
  const uint8_t kind = kind_at(at);
  const Bytes next = at + utf8_length(*at);
  if (kind == kLetter) return skip(next, end, kLetter);
  if (kind == kNumber) {
    Bytes to = next;
    for (int i = 1; i < numbers && to < end && kind_at(to) == kNumber; ++i) to += utf8_length(*to);
    return to;
  }
  if (!is_newline(*at) && next < end && kind_at(next) == kLetter) return skip(next, end, kLetter);
  const Bytes others = *at == ' ' ? next : at;
  if (others < end && kind_at(others) == kOther) {
    Bytes to = skip(others, end, kOther);
    while (to < end && is_newline(*to)) ++to;
    return to;
  }
  return space_end(at, end, true);
}

Bytes gpt2_end(Bytes at, Bytes end) {
  if (const int length = contraction(at, end, false)) return at + length;
  const Bytes from = *at == ' ' && at + 1 < end ? at + 1 : at;
  const uint8_t kind = kind_at(from);
  return kind == kSpace ? space_end(at, end, false) : skip(from, end, kind);
}

template <typename Is>
Bytes numbers_end(Bytes at, Bytes end, Is is_number) {
  if (is_number(at)) return at + utf8_length(*at);
  do {
    at += utf8_length(*at);
  } while (at < end && !is_number(at));
  return at;
}

}  // namespace

const uint8_t *word_end(Split split, const uint8_t *at, const uint8_t *end) {
  switch (split.kind) {
    case kCl100k: return cl100k_end(at, end, split.numbers);
    case kGpt2: return gpt2_end(at, end);
    case kNumbers: return numbers_end(at, end, [](Bytes p) { return kind_at(p) == kNumber; });
    case kDigits: return numbers_end(at, end, [](Bytes p) { return *p < 0x80 ? kind_at(p) == kNumber : is_digit(code_at(p)); });
    default: return end;
  }
}

}  // namespace ek
