/* Tests streams of text: characters, stop texts, and thoughts. The Python tests of the same behaviour are those of
 * tests/runtime/test_text_stream.py, test_stop_text.py and test_thought.py. */
#include "text/stream.h"

#include "check.h"
#include "small_text.h"
#include "text/thought.h"

namespace {

void characters() {
  const OpenText open;
  TextStream stream(open.tables);
  const auto push = [&](int32_t id) {
    std::string out;
    stream.push(id, out);
    return out;
  };
  CHECK(push('a') == "a" && push(0xF0).empty() && push(0x9F).empty() && push(0x99).empty() && push(0x82) == "\xF0\x9F\x99\x82");
  CHECK(push(0xE2).empty() && push('b') == "\xEF\xBF\xBD" "b" && push(-5).empty() && push(99999).empty());
  CHECK(push(0xFF).empty() && push(0xFF) == "\xEF\xBF\xBD");
  std::string rest;
  stream.flush(rest);
  CHECK(rest == "\xEF\xBF\xBD");
  CHECK(push('c') == "c");
}

void stops() {
  StopTexts stops({"STOP", "", "\n\nQ"});
  CHECK(stops.push("abS") == "ab" && stops.push("Tx") == "STx" && stops.push("y\n") == "y" && stops.push("\n") .empty());
  CHECK(stops.push("Q more") == "" && stops.found() && stops.push("z").empty() && stops.flush().empty());
  StopTexts none({});
  CHECK(none.push("abc") == "abc" && none.flush().empty());
  StopTexts held({"STOP"});
  CHECK(held.push("xSTO") == "x" && held.flush() == "STO");
  CHECK(overlap("abab", "aba") == 2 && overlap("", "a") == 0 && overlap("a", "a") == 0);
}

std::string split(bool inside, const std::vector<std::string> &texts) {
  ThoughtSplitter splitter(inside);
  std::vector<Piece> pieces;
  for (const std::string &text : texts) splitter.push(text, pieces);
  splitter.flush(pieces);
  std::string out;
  bool thought = false;
  for (const Piece &piece : pieces) {
    if (piece.thought != thought) out += piece.thought ? "[" : "]";
    thought = piece.thought;
    out += piece.text;
  }
  return thought ? out + "]" : out;
}

void thoughts() {
  CHECK(split(true, {"\n on", "e ", "\n</th", "ink>", "\n\n", "two <think>"}) == "[one]two <think>");
  CHECK(split(false, {" ", "<thi", "nk>a</think>b"}) == "[a]b");
  CHECK(split(false, {"  hello <think>"}) == "  hello <think>");
  CHECK(split(true, {"a </thin", "g"}) == "[a </thing]" && split(true, {" \n"}).empty() && split(true, {"a</think>  "}) == "[a]");
  /* Text that ends within a character, or is none: its bytes are no white space, and nothing behind them is read. */
  for (const char *cut : {"a\xF4", "a\xE3\x80", "\xE3\x80", "\xF0\x9F"}) CHECK(split(true, {cut}) == "[" + std::string(cut) + "]");
  constexpr auto none = std::string_view::npos;
  CHECK(thought_end("x\xF0</think>", true, false) == 10 && thought_end("\xE2\x80", true, false) == none);
  CHECK(thought_end("<think>a</think>b", false, false) == 16 && thought_end(" <think>a", false, false) == 9);
  CHECK(thought_end("a</think>\n\nb", true, false) == 9 && thought_end("a</think>\n\nb", false, false) == none);
  CHECK(thought_end("the tag `</think>` ends", true, false) == none && thought_end("the tag `</think>` ends", true, true) == 17);
  /* Everything that the model wrote, but the answer ended inside the thought that the template had opened. */
  CHECK(thought_end("Let me", true, true) == 6 && thought_end("", true, true) == 0);
  CHECK(thought_end("Let me", true, false) == none && thought_end("Let me", false, true) == none);
  CHECK(thought_end("```\nx</think>\n\n```", true, false) == none && thought_end("a\n</think>\nb", true, false) == none);
  CHECK(thought_end("a\n</think>\n \nb", true, false) == 10 && thought_end("</think>", true, false) == 8);
}

}  // namespace

int main() {
  characters();
  stops();
  thoughts();
  return finish("stream_test");
}
