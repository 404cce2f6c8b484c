/* Tests the loop detector with repetitions of several kinds, and with what people write that looks similar. Tokens are bytes or
 * words here. */
#include "text/loop_detector.h"

#include <functional>
#include <string>

#include "check.h"

namespace {

using namespace ek;
using Tokens = std::vector<int32_t>;

/* After how many tokens a sequence loops, or -1. */
int64_t found(const Tokens &tokens, int quarters = 4) {
  LoopDetector detector(quarters);
  for (size_t i = 0; i < tokens.size(); ++i)
    if (detector.push(tokens[i])) return static_cast<int64_t>(i) + 1;
  return -1;
}

Tokens random_tokens(int count, int below, uint32_t seed) {
  Random random{seed};
  Tokens tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>((random.next() >> 8) % static_cast<uint32_t>(below))); /* low bits repeat */
  return tokens;
}

Tokens repeated(const Tokens &block, int64_t length) {
  Tokens tokens;
  for (int64_t i = 0; i < length; ++i) tokens.push_back(block[static_cast<size_t>(i) % block.size()]);
  return tokens;
}

void append(Tokens &tokens, const Tokens &more) { tokens.insert(tokens.end(), more.begin(), more.end()); }

/* A token for each word, for each digit and for each other character. */
Tokens words(const std::string &text) {
  Tokens tokens;
  bool word = false;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter && word)
      tokens.back() = static_cast<int32_t>((static_cast<uint32_t>(tokens.back()) * 31u + static_cast<uint32_t>(c)) & 0x7fffffffu);
    else
      tokens.push_back(c);
    word = letter;
  }
  return tokens;
}

std::string rows(int count, const std::function<std::string(int)> &row) {
  std::string text;
  for (int i = 0; i < count; ++i) text += row(i) + "\n";
  return text;
}

void exact_repetitions() {
  const Tokens before = random_tokens(3000, 50000, 1);
  for (const int64_t period : {8, 9, 30, 100, 255, 700, 1000}) {
    const Tokens block = random_tokens(static_cast<int>(period), 50000, 2);
    Tokens tokens = before;
    append(tokens, repeated(block, 256 + 4 * period + 20));
    const int64_t at = found(tokens) - 3000;
    CHECK(at > 256 + 3 * period && at <= 256 + 4 * period + 20);
    tokens.resize(static_cast<size_t>(3000 + 256 + 3 * period)); /* whoever stops in time was not in a loop */
    CHECK(found(tokens) == -1);
  }
  for (const int64_t period : {1, 2, 5}) { /* few different tokens */
    Tokens tokens = before;
    append(tokens, repeated(random_tokens(static_cast<int>(period), 50000, 3), 600));
    const int64_t at = found(tokens) - 3000;
    CHECK(at > 500 && at < 560);
    CHECK(found(tokens, 16) == -1);
  }
  /* A block that repeats itself inside. */
  Tokens block = repeated({7}, 40);
  append(block, random_tokens(60, 50000, 4));
  const int64_t at = found(repeated(block, 2000));
  CHECK(at > 0 && at < 900);
}

void other_repetitions() {
  const Tokens block = random_tokens(60, 50000, 5);
  Random random{6};
  Tokens near;
  for (int i = 0; i < 4000; ++i) near.push_back(i % 60 == 30 ? 60000 + i : block[static_cast<size_t>(i % 60)]);
  const int64_t at = found(near);
  CHECK(at > 1536 + 20 * 60 && at < 1536 + 26 * 60);
  /* Five sentences in any order. */
  Tokens mixed;
  while (mixed.size() < 6000) append(mixed, random_tokens(14, 50000, 10 + static_cast<uint32_t>(random.below(5))));
  CHECK(found(mixed) > 0 && found(mixed) < 5000);
  LoopDetector detector;
  for (int i = 0; i < 1000; ++i) detector.push(block[static_cast<size_t>(i % 60)]);
  CHECK(detector.period() == 60 && detector.tokens().size() == 60);
  detector.restart(2);
  int again = 0;
  while (!detector.push(block[static_cast<size_t>((1000 + again) % 60)])) ++again;
  CHECK(again > 100 && again < 256 + 4 * 60);
}

void no_loops() {
  const auto number = [](int i) { return std::to_string(i); };
  const std::string chorus = "Row, row, row your boat,\ngently down the stream.\nMerrily, merrily, merrily, merrily,\nlife is but a dream.\n\n";
  const std::string texts[] = {
      rows(1000, number),
      rows(144, [&](int i) { return number(i / 12) + " x " + number(i % 12) + " = " + number(i / 12 * (i % 12)); }),
      rows(100, [&](int i) { return "  assert f(" + number(i) + ") == " + number(i * i % 7); }),
      rows(60, [&](int i) { return "{\"id\": " + number(100 + i) + ", \"type\": \"user\", \"active\": true, \"tags\": []},"; }),
      rows(60, [&](int i) { return "<tr><td>" + number(i) + "</td><td>" + number(i * 37 % 11) + "</td><td></td></tr>"; }),
      rows(64, [&](int i) { return std::string(i & 1 ? "T" : "F") + " | " + (i & 2 ? "T" : "F") + " | " + (i & 4 ? "T" : "F"); }),
      rows(98, [&](int i) {
        return number(99 - i) + " bottles of beer on the wall, take one down, " + number(98 - i) + " bottles of beer on the wall.";
      }),
      rows(20, [](int) { return "I must not talk in class."; }),
      rows(12, [](int i) { return std::string(static_cast<size_t>(30 + i * 7 % 40), '-'); }),
      rows(12, [](int) { return "0 0 0 0 0 0 0 0 0 0 0 0"; }),
      chorus + chorus + chorus + chorus,
  };
  for (const std::string &text : texts) CHECK(found(words(text)) == -1);
  /* Verses with a refrain, and a long quotation that is repeated twice. */
  Tokens song, quotation = random_tokens(900, 50000, 7);
  for (uint32_t i = 0; i < 40; ++i) append(song, random_tokens(60, 5000, 20 + i)), append(song, words(chorus));
  CHECK(found(song) == -1);
  CHECK(found(repeated(quotation, 2700)) == -1);
  for (const int alphabet : {2, 4, 10, 100}) CHECK(found(random_tokens(20000, alphabet, 8)) == -1);
  CHECK(LoopDetector().tokens().empty());
}

}  // namespace

int main() {
  exact_repetitions();
  other_repetitions();
  no_loops();
  return finish("loop_detector_test");
}
