/* Tests what is guessed from earlier parts of a text. */
#include "text/lookup.h"

#include <string>

#include "check.h"

namespace {

using namespace ek;

struct Guess {
  std::string text;
  int64_t match;
};

/* The guess behind a text of letters. */
Guess guess(const std::string &text, int64_t most = 7) {
  Lookup lookup;
  for (const char c : text) lookup.add(c);
  std::vector<int32_t> ids{'>'}; /* what is there stays */
  const int64_t match = lookup.guess(most, ids);
  CHECK(ids[0] == '>');
  return {std::string(ids.begin() + 1, ids.end()), match};
}

void matches() {
  CHECK(guess("").match == 0 && guess("abcd").match == 0 && guess("abcdefgh ijkl").match == 0);
  CHECK(guess("abcdefgh1234567 abcdefgh").text == "1234567" && guess("abcdefgh1234567 abcdefgh").match == 8);
  CHECK(guess("abcdefgh1234567 abcdefgh", 3).text == "123" && guess("abcdefgh12 abcdefgh", 0).match == 0);
  CHECK(guess("abcdefgh1.bcdefgh2.abcdefgh", 2).text == "1."); /* the longest match, not the latest */
  CHECK(guess("abcdefgh1.abcdefgh2.abcdefgh", 2).text == "2."); /* the latest of equals */
  const std::string words = "the quick brown fox jumps over the lazy dog;";
  CHECK(guess(words + words).match == kMostMatch && guess(words + words).text == "the qui");
}

void votes() {
  CHECK(guess("abcd12 abcd", 2).text == "12");               /* one place alone */
  CHECK(guess("xy1 ab2 xy", 1).text == "1" && guess("xy1 ab2 xy", 1).match == 2);
  CHECK(guess("abcd1.abcd1,abcd").text == "1");              /* two agree on one token */
  CHECK(guess("abcd1.abcd2,abcd").match == 0);               /* and here on none */
  CHECK(guess("abcd123.abcd2!abcd123,abcd").text == "123");  /* two of three */
}

void repetitions() {
  CHECK(guess("abcabcabcabcabc").text == "abcabca"); /* goes on behind the end of the text */
  CHECK(guess(std::string(20, 'x')).text == "xxxxxxx");
}

void clearing() {
  Lookup lookup;
  for (const char c : std::string("abcdefgh1234567 abcdefgh")) lookup.add(c);
  lookup.clear();
  CHECK(lookup.size() == 0);
  std::vector<int32_t> ids;
  for (const char c : std::string("abcdefgh")) lookup.add(c);
  CHECK(lookup.guess(7, ids) == 0 && ids.empty());
  Lookup many; /* more places than are looked at, and grams with the same hash */
  Random random{3};
  for (int i = 0; i < 50000; ++i) many.add(random.below(90000));
  CHECK(many.guess(7, ids) == 0);
  for (int i = 0; i < 2000; ++i) many.add(i % 100);
  CHECK(many.guess(7, ids) == kMostMatch && ids[0] == 0 && ids[6] == 6);
}

}  // namespace

int main() {
  matches();
  votes();
  repetitions();
  clearing();
  return finish("lookup_test");
}
