#include "tokenizer.h"

#include <algorithm>
#include <cstring>

#include "../src/error.h"

namespace ek {
namespace {

const uint8_t *bytes_of(std::string_view text) { return reinterpret_cast<const uint8_t *>(text.data()); }

bool is_space(const uint8_t *at) { return (properties(code_at(at)) & kKindBits) == kSpace; }
bool is_word(const uint8_t *at) { return properties(code_at(at)) & kWordBit; }

/* The start of the last character of a text that is not empty. */
size_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

}  // namespace

void WrittenText::add(std::string_view more, Writer writer) {
  if (more.empty()) return;
  append_replaced(more, text);
  if (!parts.empty() && parts.back().writer == writer)
    parts.back().end = text.size();
  else
    parts.push_back({text.size(), writer});
}

/* The text that is searched is part of the written text, or the normalized form of such a part. */
struct Encoder::Source {
  const WrittenText &written;
  size_t start = 0;
  const std::vector<Origin> *origins = nullptr;

  Writer writer(size_t at) const {
    const size_t place = start + (origins ? origin_of(*origins, at) : at);
    const auto part = std::upper_bound(written.parts.begin(), written.parts.end(), place,
                                       [](size_t p, const WrittenText::Part &each) { return p < each.end; });
    return part == written.parts.end() ? Writer::kTemplate : part->writer;
  }
  bool allows(const AddedToken &token, size_t at) const {
    if (!(token.flags & (kControlToken | kControlInUsers))) return true;
    const Writer by = writer(at);
    return by == Writer::kTemplate || (by == Writer::kAnswer && !(token.flags & kControlToken));
  }
};

const AddedToken *Encoder::longest_at(std::string_view text, size_t at, bool normalized) const {
  uint32_t low = normalized ? tables_.settings.raw_added : 0;
  uint32_t high = normalized ? tables_.added_count : tables_.settings.raw_added;
  const AddedToken *found = nullptr;
  for (size_t depth = 0; low < high && at + depth < text.size(); ++depth) { /* the tokens that begin with this text */
    const auto next = static_cast<uint8_t>(text[at + depth]);
    const auto byte = [&](uint32_t index) { return static_cast<uint8_t>(tables_.added_text(tables_.added(index))[depth]); };
    uint32_t first = low, last = high;
    if (tables_.added(first).size == depth) ++first; /* the shortest one is sorted first */
    for (uint32_t end = last; first < end;) {
      const uint32_t middle = first + (end - first) / 2;
      if (byte(middle) < next) first = middle + 1; else end = middle;
    }
    for (uint32_t from = first; from < last;) {
      const uint32_t middle = from + (last - from) / 2;
      if (byte(middle) <= next) from = middle + 1; else last = middle;
    }
    low = first;
    high = last;
    if (low < high && tables_.added(low).size == depth + 1) found = &tables_.added(low);
  }
  return found;
}

template <typename Piece>
void Encoder::split_at_added(std::string_view text, bool normalized, const Source &source, std::vector<int32_t> &ids, Piece piece) {
  const Tables::Firsts &firsts = tables_.firsts[normalized];
  size_t done = 0;
  for (size_t at = 0; firsts.count && at < text.size();) {
    if (firsts.count == 1) {
      const void *next = std::memchr(text.data() + at, firsts.only, text.size() - at);
      if (!next) break;
      at = static_cast<size_t>(static_cast<const char *>(next) - text.data());
    } else if (!firsts.begins[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    const AddedToken *token = longest_at(text, at, normalized);
    if (!token || !source.allows(*token, at)) { ++at; continue; }
    size_t from = at, to = at + token->size;
    at = to;
    if (token->flags & kSingleWord) {
      const bool before = from && is_word(bytes_of(text) + last_character(text.substr(0, from)));
      if (before || (to < text.size() && is_word(bytes_of(text) + to))) continue;
    }
    if (token->flags & kLeftStrip)
      while (from > done) {
        const size_t last = last_character(text.substr(0, from));
        if (!is_space(bytes_of(text) + last)) break;
        from = last;
      }
    if (token->flags & kRightStrip)
      while (to < text.size() && is_space(bytes_of(text) + to)) to += utf8_length(bytes_of(text)[to]);
    if (token->flags & kLeftStrip) from = std::max(from, done); /* in white space that the token before it has taken */
    if (from >= to) continue;
    if (done < from) piece(text.substr(done, from - done), done);
    ids.push_back(static_cast<int32_t>(token->id));
    done = to;
  }
  if (done < text.size()) piece(text.substr(done), done);
}

void Encoder::encode(const WrittenText &text, std::vector<int32_t> &ids) {
  const Source source{text};
  split_at_added(text.text, false, source, ids, [&](std::string_view piece, size_t start) { encode_raw_piece(piece, source, start, ids); });
}

void Encoder::encode_raw_piece(std::string_view piece, const Source &source, size_t start, std::vector<int32_t> &ids) {
  std::string normal;
  std::vector<Origin> origins;
  const bool changed = tables_.settings.nfc && normalize_nfc(piece, normal, origins);
  const Source inner{source.written, start, changed ? &origins : nullptr};
  split_at_added(changed ? std::string_view(normal) : piece, true, inner, ids,
                 [&](std::string_view words, size_t) { encode_words(words, ids); });
}

void Encoder::encode_words(std::string_view piece, std::vector<int32_t> &ids) {
  const size_t before = ids.size();
  each_word(piece, [&](const uint8_t *at, size_t size) { bpe_.encode(at, size, ids); });
  const auto leaked = std::find_if(ids.begin() + static_cast<int64_t>(before), ids.end(), [&](int32_t id) { return is_control(id); });
  if (leaked == ids.end()) return;
  /* The vocabulary itself holds a control token's spelling. Halves of the text cannot spell it whole. */
  ids.resize(before);
  encode_plain(piece, ids);
}

void Encoder::encode_plain(std::string_view piece, std::vector<int32_t> &ids) {
  size_t characters = 0, middle = 0;
  for (size_t at = 0; at < piece.size(); at += utf8_length(bytes_of(piece)[at])) ++characters;
  if (characters < 2) fail(EK_UNSUPPORTED, "a message spells a control token that this vocabulary cannot write as text");
  for (size_t i = 0; i < characters / 2; ++i) middle += utf8_length(bytes_of(piece)[middle]);
  encode_words(piece.substr(0, middle), ids);
  encode_words(piece.substr(middle), ids);
}

template <typename Word>
void Encoder::each_word(std::string_view piece, Word word) const {
  const Split *splits = tables_.settings.splits;
  const uint8_t *at = bytes_of(piece), *const end = at + piece.size();
  while (at < end) {
    const uint8_t *const to = word_end(splits[0], at, end);
    if (splits[1].kind == kNoSplit) {
      word(at, static_cast<size_t>(to - at));
      at = to;
      continue;
    }
    while (at < to) {
      const uint8_t *const next = word_end(splits[1], at, to);
      word(at, static_cast<size_t>(next - at));
      at = next;
    }
  }
}

void Encoder::words(std::string_view text, WordEnds &out) {
  std::string valid;
  std::vector<Origin> origins;
  append_replaced(text, valid);
  if (!tables_.settings.nfc || !normalize_nfc(valid, out.normalized, origins)) out.normalized = valid;
  int64_t end = 0;
  each_word(out.normalized, [&](const uint8_t *, size_t size) { out.ends.push_back(end += static_cast<int64_t>(size)); });
}

void apply_bos(const Tables &tables, bool add, std::vector<int32_t> &ids) {
  const int32_t bos = tables.settings.bos;
  if (bos < 0) return;
  const auto other = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id != bos; });
  if (other == ids.begin() && !add) return;
  ids.erase(ids.begin(), other);
  ids.insert(ids.begin(), bos);
}

bool is_silent(const Tables &tables, int32_t id) {
  if (id < 0 || static_cast<uint32_t>(id) >= tables.tokens) return true;
  const uint8_t flags = tables.flags(static_cast<uint32_t>(id));
  return !(flags & kHasText) || flags & kSilent;
}

void append_token_bytes(const Tables &tables, const int32_t *ids, int64_t count, std::string &out) {
  for (int64_t i = 0; i < count; ++i)
    if (!is_silent(tables, ids[i])) out.append(tables.token(static_cast<uint32_t>(ids[i])));
}

std::string decode(const Tables &tables, const int32_t *ids, int64_t count) {
  std::string bytes, text;
  append_token_bytes(tables, ids, count, bytes);
  append_replaced(bytes, text);
  return text;
}

int32_t added_token_id(const Tables &tables, std::string_view text) {
  for (uint32_t i = 0; i < tables.added_count; ++i)
    if (tables.added_text(tables.added(i)) == text) return static_cast<int32_t>(tables.added(i).id);
  return -1;
}

}  // namespace ek
