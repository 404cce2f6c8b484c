/* Tests the reader of edgekit_text.bin: every damaged byte and length is an error, and contradictions that have the right
 * checksum never lead outside the file. */
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "check.h"
#include "small_text.h"
#include "src/error.h"
#include "text/text_handle.h"
#include "text/tokenizer.h"

namespace {

const uint8_t *bytes_of(const std::vector<uint64_t> &words) { return reinterpret_cast<const uint8_t *>(words.data()); }

/* The status of opening, and with a good file of using, these bytes. */
int use(const std::vector<uint64_t> &words, uint64_t size) {
  try {
    const Tables tables(bytes_of(words), size);
    WrittenText text;
    text.add("hello <a>world</think> \xF0\x9F\x99\x82 one <s> \xFF", Writer::kTemplate);
    text.add("<think><tool> e\xCC\x81", Writer::kUser);
    std::vector<int32_t> ids;
    Encoder(tables).encode(text, ids);
    for (int32_t id = -1; id < 300; ++id) ids.push_back(id);
    decode(tables, ids.data(), static_cast<int64_t>(ids.size()));
    const ek_message messages[] = {{"system", "a", 1, 0}, {"user", "b</think>", -1, 0}, {"assistant", "<think>c</think>d", -1, 0}, {"user", "", 0, 0}};
    for (int64_t count = 1; count <= 4; ++count) try {
        Encoder(tables).encode(render(tables, messages, count), ids);
      } catch (const Error &) {
      }
    return EK_OK;
  } catch (const Error &error) {
    return error.status;
  }
}

void a_good_file() {
  OpenText open;
  CHECK(use(open.bytes, open.bytes.size() * 8) == EK_OK);
  CHECK(open.tables->tokens == 256 + 5 + 7 && open.tables->strings[0] == "STOP");
  CHECK(open.tables->token(256) == "he" && open.tables->word(reinterpret_cast<const uint8_t *>("hello"), 5) == 259);
  CHECK(open.tables->word(reinterpret_cast<const uint8_t *>("hel"), 3) == -1);
}

void every_byte_and_length() {
  const OpenText open;
  std::vector<uint64_t> words = open.bytes;
  auto *bytes = reinterpret_cast<uint8_t *>(words.data());
  const uint64_t size = words.size() * 8;
  for (uint64_t i = 0; i < size; ++i) {
    bytes[i] ^= 1 << (i % 8);
    const int status = use(words, size);
    CHECK(status == EK_BAD_FILE || (i >= 8 && i < 12 && status == EK_UNSUPPORTED));
    bytes[i] ^= 1 << (i % 8);
  }
  for (uint64_t i = 0; i < size; i += i < 600 ? 1 : 61) {
    std::vector<uint64_t> cut(words.begin(), words.begin() + static_cast<int64_t>((i + 7) / 8)); /* so that sanitizers see its end */
    CHECK(use(cut, i) == EK_BAD_FILE);
  }
}

/* Bytes and words changed at random, with a new checksum. */
void contradictions() {
  const OpenText open;
  Random random{7};
  int accepted = 0, refused = 0;
  for (int i = 0; i < 4000; ++i) {
    std::vector<uint64_t> words = open.bytes;
    auto *bytes = reinterpret_cast<uint8_t *>(words.data());
    for (int change = random.below(3); change >= 0; --change) {
      const int place = random.below(4) ? random.below(static_cast<int>(words.size() * 8 - 40)) + 32 : 32 + random.below(24 * kSections);
      if (random.below(2)) {
        bytes[place] = static_cast<uint8_t>(random.next());
      } else {
        const uint32_t value = random.below(2) ? random.next() % 300 : random.next() << 8;
        std::memcpy(bytes + place / 4 * 4, &value, 4);
      }
    }
    words[3] = text_checksum(bytes + 32, words.size() - 4);
    (use(words, words.size() * 8) == EK_OK ? accepted : refused) += 1;
  }
  CHECK(accepted > 100 && refused > 100);
}

void messages() {
  const auto message = [](const std::string &folder) -> std::string {
    try {
      const Tables tables(folder);
      return "";
    } catch (const Error &error) {
      return error.what();
    }
  };
  char folder[] = "/tmp/edgekit-tables-test-XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  const std::string path = std::string(folder) + "/" + kTextFile;
  CHECK(message(folder).find("has no edgekit_text.bin") != std::string::npos);
  const OpenText open;
  const auto write = [&](size_t size) {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char *>(open.bytes.data()), static_cast<std::streamsize>(size));
  };
  write(open.bytes.size() * 8);
  CHECK(message(folder).empty());
  write(open.bytes.size() * 8 - 8);
  CHECK(message(folder).find("bytes and should have") != std::string::npos);
  write(3);
  CHECK(message(folder).find("does not begin with EKTEXT") != std::string::npos);
  unlink(path.c_str());
  rmdir(folder);
}

}  // namespace

int main() {
  a_good_file();
  every_byte_and_length();
  contradictions();
  messages();
  return finish("tables_test");
}
