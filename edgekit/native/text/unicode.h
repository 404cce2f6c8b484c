/* UTF-8, the classes of characters that the pre-tokenizers use, and Unicode's composed form (NFC). */
#ifndef EDGEKIT_TEXT_UNICODE_H
#define EDGEKIT_TEXT_UNICODE_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ek {

/* The kinds of characters, as the regular expressions \p{L}, \p{N} and \s know them. */
enum CharKind : uint8_t { kOther = 0, kLetter = 1, kNumber = 2, kSpace = 3 };

constexpr uint8_t kKindBits = 3, kNfcBit = 4, kWordBit = 8;

/* The properties of a code point: a CharKind, kNfcBit if NFC may change it, kWordBit if it is part of a word. */
uint8_t properties(uint32_t code);

/* Whether the pre-tokenizer Digits splits a code point off: a few more than \p{N}. */
bool is_digit(uint32_t code);

/* Whether Python's str.isspace is true: \s and the separators U+001C to U+001F. */
bool is_python_space(uint32_t code);

/* The length of a character of valid UTF-8, from its first byte. */
inline size_t utf8_length(uint8_t first) { return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4; }

/* The code point at `at`; the text is valid UTF-8. */
inline uint32_t code_at(const uint8_t *at) {
  const uint32_t a = at[0];
  if (a < 0x80) return a;
  if (a < 0xE0) return (a & 0x1F) << 6 | (at[1] & 0x3F);
  if (a < 0xF0) return (a & 0x0F) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3F);
  return (a & 0x07) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3F);
}

/* The first character of text that is not empty and need not be valid UTF-8; U+FFFD if the text ends within it. */
inline uint32_t first_code(std::string_view text) {
  const auto *at = reinterpret_cast<const uint8_t *>(text.data());
  return utf8_length(*at) <= text.size() ? code_at(at) : 0xFFFD;
}

/* The length of that character: no longer than the text. */
inline size_t first_length(std::string_view text) {
  const size_t length = utf8_length(static_cast<uint8_t>(text[0]));
  return length < text.size() ? length : text.size();
}

void append_utf8(uint32_t code, std::string &out);

/* The first character of `size` bytes (at least 1) that need not be valid UTF-8.
 *
 * valid       a whole character of `length` bytes
 * incomplete  the bytes are the beginning of a character
 * otherwise   `length` bytes that are no character: as many as could begin one, at least 1 (the Unicode Standard, 3.9,
 *             "maximal subpart"), which Python and Rust replace by one U+FFFD */
struct Utf8Step {
  uint8_t length;
  bool valid, incomplete;
};
Utf8Step utf8_step(const uint8_t *at, size_t size);

/* The number of bytes at the start that are valid UTF-8. */
size_t valid_prefix(std::string_view text);

/* Append text with U+FFFD for what is not valid UTF-8. */
void append_replaced(std::string_view text, std::string &out);

/* A place in normalized text and where it comes from. From here to the next place, the text was copied if `copied`. Otherwise
 * its first character comes from `from` and the others from the bytes before `end`. */
struct Origin {
  size_t at, from, end;
  bool copied;
};

/* Write the NFC of valid UTF-8 to `out`, and from where it comes to `origins`. Returns false, and writes nothing, if the text
 * is in NFC already. */
bool normalize_nfc(std::string_view text, std::string &out, std::vector<Origin> &origins);

/* Where the byte at `at` of normalized text comes from. */
size_t origin_of(const std::vector<Origin> &origins, size_t at);

/* Text without the white space (Python's str.isspace) at its start, or at its end. It need not be valid UTF-8. */
std::string_view without_leading_space(std::string_view text);
std::string_view without_trailing_space(std::string_view text);

}  // namespace ek

#endif
