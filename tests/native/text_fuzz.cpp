/* A libFuzzer target. The input is text, whose first byte chooses how it is divided. It must encode and decode to itself, and what
 * arrives in pieces must become the same as what arrives at once: ids to text, stop texts, thoughts. */
#include <cstdlib>

#include "small_text.h"
#include "text/loop_detector.h"
#include "text/stream.h"
#include "text/text_handle.h"
#include "text/thought.h"
#include "text/tokenizer.h"
#include "text/watch.h"

namespace {

void expect(bool good) {
  if (!good) std::abort();
}

/* The first piece of a text that is not empty: `step` bytes, and the rest of the character they end in. */
std::string_view first_piece(std::string_view text, size_t step) {
  while (step < text.size() && (static_cast<uint8_t>(text[step]) & 0xC0) == 0x80) ++step;
  return text.substr(0, step);
}

/* The thought and the answer of a text in pieces of about `step` bytes. */
std::pair<std::string, std::string> split(std::string_view text, size_t step, bool inside) {
  ThoughtSplitter splitter(inside);
  std::vector<Piece> pieces;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view piece = first_piece(rest, step);
    splitter.push(piece, pieces);
    rest.remove_prefix(piece.size());
  }
  splitter.flush(pieces);
  std::pair<std::string, std::string> found;
  for (const Piece &piece : pieces) (piece.thought ? found.first : found.second) += piece.text;
  return found;
}

std::string stopped(std::string_view text, size_t step) {
  StopTexts stops({"STOP", "SST", "\n\n"});
  std::string found;
  for (size_t at = 0; at < text.size(); at += step) found += stops.push(text.substr(at, step));
  return found + stops.flush();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const OpenText open;
  if (size == 0) return 0;
  const size_t step = 1 + bytes[0] % 7;
  const bool inside = bytes[0] & 64;
  const std::string_view raw(reinterpret_cast<const char *>(bytes) + 1, size - 1);
  std::string text;
  append_replaced(raw, text);
  try {
    for (const Writer writer : {Writer::kTemplate, Writer::kUser, Writer::kAnswer}) {
      WrittenText written;
      written.add(raw.substr(0, raw.size() / 2), writer);
      written.add(raw.substr(raw.size() / 2), writer);
      std::vector<int32_t> ids;
      Encoder(*open.tables).encode(written, ids);
      const std::string whole = decode(*open.tables, ids.data(), static_cast<int64_t>(ids.size()));
      TextStream stream(open.tables);
      std::string pieces;
      for (const int32_t id : ids) {
        expect(id >= 0 && id < static_cast<int32_t>(open.tables->tokens));
        stream.push(id, pieces);
      }
      stream.flush(pieces);
      expect(pieces == whole);
    }
    const ek_message messages[] = {{"user", raw.data(), static_cast<int64_t>(raw.size()), 0},
                                   {"assistant", raw.data(), static_cast<int64_t>(raw.size()), inside},
                                   {"user", "x", 1, 0}};
    std::vector<int32_t> ids;
    Encoder(*open.tables).encode(render(*open.tables, messages, 3), ids);
  } catch (const Error &) {
  }
  expect(split(text, step, inside) == split(text, text.size() + 1, inside));
  split(raw, step, inside); /* bytes that are no characters do no harm */
  expect(stopped(text, step) == stopped(text, text.size() + 1));
  for (const bool opened : {false, true}) {
    const size_t end = thought_end(text, opened, inside);
    expect(end == std::string_view::npos || end <= text.size());
  }
  Watch watch(bytes[0] % 5, EK_GUARD_ALL, inside);
  std::vector<float> logits(256, 1.0f);
  for (const char byte : raw) {
    watch.push(static_cast<uint8_t>(byte) % (1 + bytes[0] % 4), inside);
    watch.adjust(logits.data(), 256);
  }
  return 0;
}
