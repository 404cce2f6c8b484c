/* Tests UTF-8 and NFC. tests/native/test_text.py compares every code point with the tokenizers library. */
#include "text/unicode.h"

#include "check.h"

namespace {

using namespace ek;

std::string nfc(const std::string &text) {
  std::string out;
  std::vector<Origin> origins;
  return normalize_nfc(text, out, origins) ? out : text;
}

std::string replaced(const std::string &text) {
  std::string out;
  append_replaced(text, out);
  return out;
}

#define R "\xEF\xBF\xBD"

void utf8() {
  CHECK(replaced("a\xC3\xA9\xE4\xBD\xA0\xF0\x9F\x99\x82") == "a\xC3\xA9\xE4\xBD\xA0\xF0\x9F\x99\x82");
  /* The Unicode Standard, table 3-8 and its neighbours. */
  CHECK(replaced("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == R R R R R R R R "A");
  CHECK(replaced("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") == R R R R R R R R "A");
  CHECK(replaced("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") == R R R R R "A" R R "B");
  CHECK(replaced("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == R R R R "A");
  const auto step = [](const char *text, size_t size) { return utf8_step(reinterpret_cast<const uint8_t *>(text), size); };
  CHECK(step("\xE2\x82", 2).incomplete && step("\xE2\x82", 2).length == 2 && !step("\xE2(", 2).incomplete);
  for (uint32_t code : {0x41u, 0xE9u, 0x4F60u, 0x1F642u, 0x10FFFFu}) {
    std::string out;
    append_utf8(code, out);
    CHECK(out.size() == utf8_length(static_cast<uint8_t>(out[0])) && code_at(reinterpret_cast<const uint8_t *>(out.data())) == code);
  }
}

void composition() {
  CHECK(nfc("plain \xC3\xA9") == "plain \xC3\xA9");
  CHECK(nfc("xe\xCC\x81y") == "x\xC3\xA9y");
  CHECK(nfc("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB") == "\xED\x95\x9C");          /* Hangul */
  CHECK(nfc("\xE2\x84\xAB") == "\xC3\x85");                                        /* the angstrom sign */
  CHECK(nfc("a\xCC\xA3\xCC\x87") == "\xE1\xBA\xA1\xCC\x87");                       /* below before above */
  CHECK(nfc("a\xCC\x87\xCC\xA3") == "\xE1\xBA\xA1\xCC\x87");
  CHECK(nfc("\xCC\x81" "a") == "\xCC\x81" "a" && nfc("").empty());
  std::string marks = "a";
  for (int i = 0; i < 20000; ++i) marks += i % 2 ? "\xCC\x81" : "\xCC\xA3";       /* sorted in less than quadratic time */
  CHECK(nfc(marks).size() == marks.size());
}

void origins() {
  std::string out;
  std::vector<Origin> origins;
  CHECK(normalize_nfc("abe\xCC\x81<x", out, origins) && out == "ab\xC3\xA9<x");
  CHECK(origin_of(origins, 0) == 0 && origin_of(origins, 2) == 2 && origin_of(origins, 4) == 5 && origin_of(origins, 5) == 6);
  CHECK(origin_of({}, 9) == 9);
}

void spaces() {
  CHECK(without_leading_space(" \n\x1C\xC2\xA0\xE3\x80\x80x ") == "x " && without_leading_space("\xE2\x80\x8Bx") == "\xE2\x80\x8Bx");
  CHECK(without_trailing_space(" x\xE2\x80\x83 ") == " x" && without_trailing_space(" \t").empty());
  CHECK(is_python_space(0x1F) && is_python_space(0x2028) && !is_python_space('x') && is_digit('7') && is_digit(0x11DE0));
  CHECK((properties(0x17F) & kKindBits) == kLetter && properties(0x200000) == kOther && properties('_') & kWordBit);
}

}  // namespace

int main() {
  utf8();
  composition();
  origins();
  spaces();
  return finish("unicode_test");
}
