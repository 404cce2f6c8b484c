#include "unicode.h"

#include <algorithm>
#include <iterator>

namespace ek {
namespace {

#include "unicode_tables.inl"

constexpr uint32_t kCodes = 0x110000, kBlock = 128;
static_assert(std::size(kBlockOf) * kBlock == kCodes);

/* Hangul syllables are composed by arithmetic: the Unicode Standard, 3.12. */
constexpr uint32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr uint32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28, kSyllableCount = kLeadCount * kVowelCount * kTailCount;
constexpr uint64_t kCodeMask = (1 << 21) - 1;

struct Mark {
  uint32_t code;
  uint8_t combining;
};

uint8_t combining_class(uint32_t code) {
  const auto *end = std::end(kCombining);
  const auto *after = std::upper_bound(std::begin(kCombining), end, static_cast<uint64_t>(code) << 32 | UINT32_MAX);
  if (after == std::begin(kCombining)) return 0;
  const uint64_t range = *(after - 1);
  return code <= static_cast<uint32_t>(range >> 8 & 0xFFFFFF) ? static_cast<uint8_t>(range) : 0;
}

void decompose(uint32_t code, std::vector<Mark> &out) {
  if (code - kSyllables < kSyllableCount) {
    const uint32_t index = code - kSyllables, tail = index % kTailCount;
    out.push_back({kLeads + index / (kVowelCount * kTailCount), 0});
    out.push_back({kVowels + index / kTailCount % kVowelCount, 0});
    if (tail) out.push_back({kTails + tail, 0});
    return;
  }
  const auto *found = std::lower_bound(std::begin(kApart), std::end(kApart), static_cast<uint64_t>(code) << 42);
  if (found == std::end(kApart) || *found >> 42 != code) {
    out.push_back({code, combining_class(code)});
    return;
  }
  const auto second = static_cast<uint32_t>(*found & kCodeMask);
  decompose(static_cast<uint32_t>(*found >> 21 & kCodeMask), out);
  if (second) decompose(second, out);
}

/* The character that NFC makes of two, or 0. */
uint32_t composed(uint32_t first, uint32_t second) {
  if (first - kLeads < kLeadCount && second - kVowels < kVowelCount)
    return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTailCount;
  if (first - kSyllables < kSyllableCount && (first - kSyllables) % kTailCount == 0 && second - kTails - 1 < kTailCount - 1)
    return first + (second - kTails);
  const uint64_t pair = static_cast<uint64_t>(first) << 42 | static_cast<uint64_t>(second) << 21;
  const auto *found = std::lower_bound(std::begin(kTogether), std::end(kTogether), pair);
  return found != std::end(kTogether) && (*found & ~kCodeMask) == pair ? static_cast<uint32_t>(*found & kCodeMask) : 0;
}

/* Append the NFC of a stretch that begins and ends where characters cannot interact with those outside. */
void append_nfc(std::string_view text, std::vector<Mark> &marks, std::string &out) {
  marks.clear();
  for (const auto *at = reinterpret_cast<const uint8_t *>(text.data()), *end = at + text.size(); at < end; at += utf8_length(*at))
    decompose(code_at(at), marks);
  for (auto from = marks.begin(); from < marks.end();) {
    if (!from->combining) { ++from; continue; }
    auto to = std::find_if(from, marks.end(), [](const Mark &mark) { return !mark.combining; });
    std::stable_sort(from, to, [](const Mark &a, const Mark &b) { return a.combining < b.combining; });
    from = to;
  }
  /* Each mark joins the last starter, unless one of the same or a higher class stands between them. */
  size_t kept = 0, starter = SIZE_MAX;
  for (size_t i = 0; i < marks.size(); ++i) {
    const Mark mark = marks[i];
    if (starter != SIZE_MAX) {
      const bool adjacent = kept == starter + 1, blocked = !adjacent && marks[kept - 1].combining >= mark.combining;
      const uint32_t both = blocked ? 0 : composed(marks[starter].code, mark.code);
      if (both) { marks[starter].code = both; continue; }
    }
    if (!mark.combining) starter = kept;
    marks[kept++] = mark;
  }
  for (size_t i = 0; i < kept; ++i) append_utf8(marks[i].code, out);
}

}  // namespace

uint8_t properties(uint32_t code) {
  if (code >= kCodes) return kOther;
  const uint8_t two = kBlocks[(kBlockOf[code / kBlock] * kBlock + code % kBlock) / 2];
  return code & 1 ? two >> 4 : two & 15;
}

bool is_digit(uint32_t code) {
  return (properties(code) & kKindBits) == kNumber || std::binary_search(std::begin(kMoreDigits), std::end(kMoreDigits), code);
}

bool is_python_space(uint32_t code) { return (properties(code) & kKindBits) == kSpace || (code >= 0x1C && code <= 0x1F); }

void append_utf8(uint32_t code, std::string &out) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xE0 | code >> 12);
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
    }
    put(0x80 | (code >> 6 & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

Utf8Step utf8_step(const uint8_t *at, size_t size) {
  const uint8_t first = at[0];
  if (first < 0x80) return {1, true, false};
  if (first < 0xC2 || first > 0xF4) return {1, false, false};
  const auto length = static_cast<uint8_t>(utf8_length(first));
  /* The second byte excludes overlong forms, surrogates, and codes above U+10FFFF. */
  const uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80, high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (uint8_t i = 1; i < length; ++i) {
    if (i == size) return {i, false, true};
    if (at[i] < (i == 1 ? low : 0x80) || at[i] > (i == 1 ? high : 0xBF)) return {i, false, false};
  }
  return {length, true, false};
}

size_t valid_prefix(std::string_view text) {
  const auto *begin = reinterpret_cast<const uint8_t *>(text.data());
  size_t at = 0;
  while (at < text.size()) {
    if (begin[at] < 0x80) { ++at; continue; }
    const Utf8Step step = utf8_step(begin + at, text.size() - at);
    if (!step.valid) break;
    at += step.length;
  }
  return at;
}

void append_replaced(std::string_view text, std::string &out) {
  while (!text.empty()) {
    const size_t valid = valid_prefix(text);
    out.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) return;
    out.append("\xEF\xBF\xBD");
    text.remove_prefix(utf8_step(reinterpret_cast<const uint8_t *>(text.data()), text.size()).length);
  }
}

bool normalize_nfc(std::string_view text, std::string &out, std::vector<Origin> &origins) {
  const auto *begin = reinterpret_cast<const uint8_t *>(text.data());
  std::vector<Mark> marks;
  std::string piece;
  size_t done = 0, starter = 0; /* what is written; the last character that nothing before it can change */
  const size_t size = text.size();
  out.clear();
  origins.clear();
  for (size_t at = 0; at < size;) {
    if (begin[at] < 0x80) { starter = at++; continue; }
    if (!(properties(code_at(begin + at)) & kNfcBit)) { starter = at; at += utf8_length(begin[at]); continue; }
    size_t end = at;
    while (end < size && properties(code_at(begin + end)) & kNfcBit) end += utf8_length(begin[end]);
    const size_t from = std::max(starter, done);
    piece.clear();
    append_nfc(text.substr(from, end - from), marks, piece);
    if (piece != text.substr(from, end - from)) {
      if (from > done) origins.push_back({out.size(), done, from, true});
      out.append(text.substr(done, from - done));
      origins.push_back({out.size(), from, end, false});
      out.append(piece);
      done = end;
    }
    starter = at = end;
  }
  if (origins.empty()) return false;
  origins.push_back({out.size(), done, size, true});
  out.append(text.substr(done));
  return true;
}

size_t origin_of(const std::vector<Origin> &origins, size_t at) {
  const auto after = std::upper_bound(origins.begin(), origins.end(), at, [](size_t place, const Origin &o) { return place < o.at; });
  if (after == origins.begin()) return at;
  const Origin &origin = *(after - 1);
  if (origin.copied) return origin.from + (at - origin.at);
  return at == origin.at ? origin.from : origin.end - 1;
}

std::string_view without_leading_space(std::string_view text) {
  while (!text.empty() && is_python_space(first_code(text))) text.remove_prefix(first_length(text));
  return text;
}

std::string_view without_trailing_space(std::string_view text) {
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    if (!is_python_space(first_code(text.substr(start)))) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

}  // namespace ek
