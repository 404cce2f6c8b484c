/* Tests encoding and decoding on a small vocabulary: words, merges, added tokens and who wrote a text.
 * tests/native/test_text.py compares ids with the tokenizers library. */
#include "text/tokenizer.h"

#include "check.h"
#include "small_text.h"
#include "src/error.h"

namespace {

std::vector<int32_t> encoded(const OpenText &open, const std::vector<std::pair<std::string, Writer>> &parts) {
  WrittenText text;
  for (const auto &[part, writer] : parts) text.add(part, writer);
  std::vector<int32_t> ids;
  Encoder(*open.tables).encode(text, ids);
  return ids;
}

std::vector<int32_t> encoded(const OpenText &open, const std::string &text) { return encoded(open, {{text, Writer::kTemplate}}); }

std::vector<int32_t> bytes(const std::string &text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

std::vector<std::string> words(Split first, Split second, const std::string &text) {
  SmallText small;
  small.settings.splits[0] = first;
  small.settings.splits[1] = second;
  const OpenText open(small);
  WordEnds found;
  Encoder(*open.tables).words(text, found);
  std::vector<std::string> out;
  int64_t from = 0;
  for (const int64_t end : found.ends) {
    out.push_back(found.normalized.substr(static_cast<size_t>(from), static_cast<size_t>(end - from)));
    from = end;
  }
  return out;
}

using Words = std::vector<std::string>;

void splitting() {
  const Split llama{kCl100k, 3}, qwen{kCl100k, 1}, gpt2{kGpt2, 0}, numbers{kNumbers, 0}, none{kNoSplit, 0};
  CHECK(words(llama, none, "I'LL  go,1234\n\n x") == (Words{"I", "'LL", " ", " go", ",", "123", "4", "\n\n", " x"}));
  CHECK(words(qwen, none, "a12 ...\r\n\r b") == (Words{"a", "1", "2", " ...\r\n\r", " b"}));
  CHECK(words(gpt2, none, "I'LL  go 1234!\n") == (Words{"I", "'", "LL", " ", " go", " 1234", "!", "\n"}));
  CHECK(words(numbers, gpt2, "a  12b") == (Words{"a", "  ", "1", "2", "b"}));
  CHECK(words(llama, none, "'\xC5\xBFx \t") == (Words{"'\xC5\xBF", "x", " \t"}));
  CHECK(words(llama, none, "").empty());
}

void merging() {
  const OpenText open;
  CHECK(encoded(open, "hello") == std::vector<int32_t>{259});
  CHECK(encoded(open, "hhell") == (std::vector<int32_t>{'h', 258}));
  CHECK(encoded(open, " world") == (std::vector<int32_t>{260, 'o', 'r', 'l', 'd'}));
  std::string run; /* longer than what is merged without a heap */
  for (int i = 0; i < 40; ++i) run += "hel";
  std::vector<int32_t> expected;
  for (int i = 0; i < 40; ++i) expected.insert(expected.end(), {256, 'l'});
  CHECK(encoded(open, run) == expected);
  CHECK(encoded(open, std::string(100, 'l')) == std::vector<int32_t>(50, 257));
  CHECK(encoded(open, "e\xCC\x81") == bytes("\xC3\xA9"));
  CHECK(encoded(open, "\xFF") == bytes("\xEF\xBF\xBD"));
}

void added_tokens() {
  const SmallText small;
  const OpenText open(small);
  const int32_t a = small.id("<a>"), s = small.id("<s>"), one = small.id("one");
  CHECK(encoded(open, "x<a><a>y") == (std::vector<int32_t>{'x', a, a, 'y'}));
  CHECK(encoded(open, "x  <s> \n y<s>") == (std::vector<int32_t>{'x', s, 'y', s}));
  CHECK(encoded(open, "<<s>") == (std::vector<int32_t>{'<', s}));
  CHECK(encoded(open, "one") == std::vector<int32_t>{one});
  CHECK(encoded(open, "(one)") == (std::vector<int32_t>{'(', one, ')'}));
  CHECK(encoded(open, "ones") == bytes("ones") && encoded(open, "\xC3\xA9one") == bytes("\xC3\xA9one"));
}

void writers() {
  const SmallText small;
  const OpenText open(small);
  const int32_t a = small.id("<a>"), tool = small.id("<tool>");
  CHECK(encoded(open, {{"<a>", Writer::kTemplate}, {"<a><tool>", Writer::kUser}, {"<a>", Writer::kTemplate}}).size() == 1 + 3 + 6 + 1);
  CHECK(encoded(open, {{"<a><tool>", Writer::kAnswer}}) == (std::vector<int32_t>{'<', 'a', '>', tool}));
  CHECK(encoded(open, {{"<", Writer::kUser}, {"a>", Writer::kTemplate}}) == bytes("<a>"));
  CHECK(encoded(open, {{"<", Writer::kTemplate}, {"a>", Writer::kUser}}) == std::vector<int32_t>{a});
  CHECK(encoded(open, {{"<\xFF" "a>", Writer::kUser}}) == bytes("<\xEF\xBF\xBD" "a>"));
  CHECK(open.tables->settings.raw_added == 7);
}

void decoding() {
  const SmallText small;
  const OpenText open(small);
  const std::vector<int32_t> ids{-1, 259, small.id("<a>"), small.id("<think>"), 0xE2, 0x82, 'x', 5000};
  CHECK(decode(*open.tables, ids.data(), 8) == "hello<think>\xEF\xBF\xBDx");
  CHECK(added_token_id(*open.tables, "<a>") == small.id("<a>") && added_token_id(*open.tables, "he") == -1);
  std::vector<int32_t> many{7, 7, 8};
  SmallText with_bos;
  with_bos.settings.bos = 7;
  const OpenText bos(with_bos);
  apply_bos(*bos.tables, false, many);
  CHECK(many == (std::vector<int32_t>{7, 8}));
  many = {8};
  apply_bos(*bos.tables, false, many);
  CHECK(many == std::vector<int32_t>{8});
  apply_bos(*bos.tables, true, many);
  CHECK(many == (std::vector<int32_t>{7, 8}));
}

}  // namespace

int main() {
  splitting();
  merging();
  added_tokens();
  writers();
  decoding();
  return finish("tokenizer_test");
}
