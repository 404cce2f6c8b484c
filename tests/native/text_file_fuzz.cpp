/* A libFuzzer target. The input is an edgekit_text.bin whose size and checksum are made right. Whatever the reader accepts must
 * encode, decode and render conversations without leaving the file, whose end the address sanitizer guards.
 *
 *   cmake -S edgekit/native -B build/fuzz -DEDGEKIT_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++ && cmake --build build/fuzz \
 *       --target text_file_fuzz
 *   python tests/support/fuzz_corpus.py corpus && build/fuzz/text_file_fuzz -max_total_time=60 corpus/text
 */
#include <cstring>

#include "src/error.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace {

constexpr const char *kTexts[] = {"hello <|im_start|>user don't 12345 ...\r\n  x", "e\xCC\x81\xE1\x84\x92\xE1\x85\xA1 \xF0\x9F\x99\x82 \xFF </think>",
                                  "<think>\n\n</think>\xE3\x80\x80<tool_call>  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  size = size / 8 * 8;
  std::vector<uint64_t> words(size / 8);
  if (size) std::memcpy(words.data(), bytes, size);
  if (words.size() > 4) {
    words[2] = size;
    words[3] = ek::text_checksum(reinterpret_cast<const uint8_t *>(words.data() + 4), words.size() - 4);
  }
  try {
    const ek::Tables tables(reinterpret_cast<const uint8_t *>(words.data()), size);
    std::vector<int32_t> ids;
    for (const ek::Writer writer : {ek::Writer::kTemplate, ek::Writer::kUser, ek::Writer::kAnswer})
      for (const char *text : kTexts) {
        ek::WrittenText written;
        written.add(text, writer);
        written.add("<a>", ek::Writer::kTemplate);
        ek::Encoder(tables).encode(written, ids);
      }
    for (uint32_t id = 0; id < tables.tokens; id += 1 + tables.tokens / 64) ids.push_back(static_cast<int32_t>(id));
    ek::decode(tables, ids.data(), static_cast<int64_t>(ids.size()));
    const ek_message messages[] = {{"system", kTexts[0], -1, 0}, {"user", kTexts[1], -1, 0}, {"assistant", kTexts[2], -1, 0}, {"user", "", 0, 0}};
    ek::Encoder(tables).encode(ek::render(tables, messages, 4), ids);
  } catch (const ek::Error &) {
  }
  return 0;
}
