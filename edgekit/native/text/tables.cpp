#include "tables.h"

#include <unistd.h>

#include <cinttypes>
#include <cstring>

#include "../src/error.h"
#include "chat.h"
#include "unicode.h"

namespace ek {
namespace {

constexpr uint64_t kHeader = 32, kEntry = 24;
constexpr char kMagic[] = "EKTEXT\r\n";
static_assert(sizeof(TextSettings) == 76 && sizeof(AddedToken) == 16);

uint32_t read32(const uint8_t *at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

uint64_t read64(const uint8_t *at) {
  uint64_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

[[noreturn]] void damaged(const char *what) {
  fail(EK_BAD_FILE, "%s is damaged: %s; copy or build the artifact again", kTextFile, what);
}

void expect(bool good, const char *what) {
  if (!good) damaged(what);
}

bool is_power_of_two(uint64_t count) { return count >= 2 && (count & (count - 1)) == 0; }

int log2_of(uint64_t power) {
  int log = 0;
  while (power >> log > 1) ++log;
  return log;
}

/* The path of the file in an artifact. Throws Error if it is missing. */
std::string existing(const std::string &folder) {
  const std::string path = folder + "/" + kTextFile;
  if (::access(path.c_str(), F_OK) != 0)
    fail(EK_BAD_FILE,
         "%s has no %s: its tokenizer is of a kind that the library does not support, or an older edgekit built it. "
         "`edgekit bundle` and edgekit.build.text_file.add_text_file(folder) add the file",
         folder.c_str(), kTextFile);
  return path;
}

}  // namespace

uint64_t hash_word(const uint8_t *at, size_t size) {
  constexpr uint64_t kFactor = 0x9E3779B97F4A7C15u;
  uint64_t hash = size * 0xBF58476D1CE4E5B9u, last;
  if (size >= 8) {
    for (; size > 8; at += 8, size -= 8) {
      hash = (hash ^ read64(at)) * kFactor;
      hash ^= hash >> 32;
    }
    last = read64(at + size - 8); /* the last 8 bytes, part of which may have been read before */
  } else if (size >= 4) {
    last = read32(at) | static_cast<uint64_t>(read32(at + size - 4)) << 32;
  } else {
    last = size ? at[0] | at[size / 2] << 8 | at[size - 1] << 16 : 0;
  }
  hash = (hash ^ last) * kFactor;
  return (hash ^ hash >> 32) * kFactor;
}

uint64_t text_checksum(const uint8_t *words, uint64_t count) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t word = (read64(words + 8 * i) ^ (i * 0xD6E8FEB86659FD93u)) * 0x9E3779B97F4A7C15u;
    word = (word ^ word >> 29) * 0xBF58476D1CE4E5B9u;
    sum += word ^ word >> 32;
  }
  return sum;
}

Tables::Tables(const std::string &folder) : file_(existing(folder), MappedFile::kCopied) { read(); }

Tables::Tables(const uint8_t *bytes, uint64_t size) : file_(bytes, size) { read(); }

template <typename T>
const T *Tables::section(SectionKind kind, uint64_t &count) const {
  const uint8_t *entry = file_.data() + kHeader + (kind - 1) * kEntry;
  const uint64_t offset = read64(entry + 8), size = read64(entry + 16);
  expect(read32(entry) == kind, "its sections are not in order");
  expect(offset % 8 == 0 && offset <= file_.size() && size <= file_.size() - offset && size % sizeof(T) == 0,
         "a section is not inside the file");
  count = size / sizeof(T);
  return reinterpret_cast<const T *>(file_.data() + offset);
}

void Tables::read() {
  const uint8_t *bytes = file_.data();
  if (file_.size() < 12 || std::memcmp(bytes, kMagic, 8) != 0)
    fail(EK_BAD_FILE, "%s is not a file of text tables: it does not begin with EKTEXT", kTextFile);
  const uint32_t version = read32(bytes + 8);
  if (version != kTextVersion)
    fail(EK_UNSUPPORTED,
         "%s has format version %u; this library reads version %u. Write the file again with this version of edgekit",
         kTextFile, version, kTextVersion);
  expect(file_.size() >= kHeader + kSections * kEntry && file_.size() % 8 == 0 && read32(bytes + 12) == kSections,
         "it is too short");
  if (read64(bytes + 16) != file_.size())
    fail(EK_BAD_FILE, "%s is damaged: it has %" PRIu64 " bytes and should have %" PRIu64 "; copy or build the artifact again",
         kTextFile, file_.size(), read64(bytes + 16));
  expect(text_checksum(bytes + kHeader, (file_.size() - kHeader) / 8) == read64(bytes + 24), "its checksum is wrong");

  uint64_t count = 0;
  const TextSettings *stored = section<TextSettings>(kSettings, count);
  expect(count == 1, "its settings have another size");
  settings = *stored;
  check_tokens();
  check_hashes();
  check_added();
  read_strings();
  const auto in_vocabulary = [&](int64_t id) { return id >= 0 && id < tokens; };
  expect(settings.bos == -1 || in_vocabulary(settings.bos), "bos is outside the vocabulary");
  const uint32_t *ids = section<uint32_t>(kStopIds, count);
  for (uint64_t i = 0; i < count; ++i) {
    expect(ids[i] <= INT32_MAX, "a stop id is out of range");
    stop_ids.push_back(static_cast<int32_t>(ids[i]));
  }
  for (const Split &split : settings.splits)
    expect(split.kind <= kDigits && (split.kind != kCl100k || split.numbers >= 1), "its pre-tokenizer is not known");
}

void Tables::check_tokens() {
  uint64_t offsets, bytes, flags, byte_ids;
  offsets_ = section<uint32_t>(kTokenOffsets, offsets);
  token_bytes_ = section<uint8_t>(kTokenBytes, bytes);
  flags_ = section<uint8_t>(kTokenFlags, flags);
  byte_ids_ = section<int32_t>(kByteIds, byte_ids);
  expect(offsets == flags + 1 && flags <= kMostTokens && byte_ids == 256, "its vocabulary has another size");
  tokens = static_cast<uint32_t>(flags);
  expect(offsets_[0] == 0 && offsets_[tokens] == bytes, "its tokens have another size");
  for (uint32_t i = 0; i < tokens; ++i) expect(offsets_[i] <= offsets_[i + 1], "its tokens are not in order");
  for (int i = 0; i < 256; ++i) expect(byte_ids_[i] >= -1 && byte_ids_[i] < static_cast<int64_t>(tokens), "a byte has no token");
}

void Tables::check_hashes() {
  uint64_t words, merges;
  words_ = section<uint32_t>(kWords, words);
  merges_ = section<uint64_t>(kMerges, merges);
  merged_ = section<uint32_t>(kMerged, merged_count_);
  expect(is_power_of_two(words) && is_power_of_two(merges), "a hash table has another size");
  word_mask_ = words - 1;
  word_shift_ = 64 - log2_of(words);
  merge_mask_ = merges - 1;
  merge_shift_ = 64 - log2_of(merges);
  bool empty = false; /* a search ends at an empty slot */
  for (uint64_t i = 0; i < words; ++i) {
    empty = empty || words_[i] == kNoWord;
    expect(words_[i] == kNoWord || (words_[i] & kMostTokens) < tokens, "a word is outside the vocabulary");
  }
  expect(empty, "a hash table is full");
  empty = false;
  for (uint64_t i = 0; i < merges; ++i) {
    empty = empty || merges_[i] == kNoMerge;
    expect(merges_[i] == kNoMerge || (merges_[i] & kMostTokens) < merged_count_, "a merge is out of range");
  }
  expect(empty, "a hash table is full");
  for (uint64_t i = 0; i < merged_count_; ++i) expect(merged_[i] < tokens, "a merge is outside the vocabulary");
}

void Tables::check_added() {
  uint64_t count, text;
  added_ = section<AddedToken>(kAdded, count);
  added_text_ = section<uint8_t>(kAddedText, text);
  expect(count <= kMostTokens && settings.raw_added <= count, "its added tokens have another size");
  added_count = static_cast<uint32_t>(count);
  for (uint32_t i = 0; i < added_count; ++i) {
    const AddedToken &token = added_[i];
    expect(token.id < tokens && token.size && token.offset <= text && token.size <= text - token.offset,
           "an added token is out of range");
    expect(valid_prefix(added_text(token)) == token.size, "an added token is not UTF-8");
    const bool first = i == 0 || i == settings.raw_added;
    expect(first || added_text(added_[i - 1]) < added_text(token), "its added tokens are not in order");
    Firsts &group = firsts[i >= settings.raw_added];
    const uint8_t byte = added_text_[token.offset];
    group.count += !group.begins[byte];
    group.begins[group.only = byte] = true;
  }
}

void Tables::read_strings() {
  uint64_t size;
  const uint8_t *bytes = section<uint8_t>(kStrings, size);
  expect(size >= 8 && read32(bytes) <= (size - 8) / 4, "its texts have another size");
  const uint32_t count = read32(bytes);
  const uint8_t *offsets = bytes + 4, *text = offsets + 4 * (uint64_t{count} + 1);
  const uint64_t room = static_cast<uint64_t>(bytes + size - text);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t from = read32(offsets + 4 * i), to = read32(offsets + 4 * i + 4);
    expect(from <= to && to <= room, "a text is out of range");
    strings.emplace_back(reinterpret_cast<const char *>(text + from), to - from);
    expect(valid_prefix(strings.back()) == strings.back().size(), "a text is not UTF-8");
  }
  expect(settings.stop_texts <= count, "its stop texts are out of range");
  expect(!settings.has_chat || count - settings.stop_texts == kChatStrings, "its chat format has another size");
}

int32_t Tables::word(const uint8_t *at, size_t size) const {
  const uint64_t hash = hash_word(at, size);
  const uint32_t tag = static_cast<uint32_t>(hash & ((1 << (32 - kIdBits)) - 1));
  for (uint64_t slot = hash >> word_shift_;; slot = (slot + 1) & word_mask_) {
    const uint32_t found = words_[slot], id = found & kMostTokens;
    if (found == kNoWord) return -1;
    if (found >> kIdBits == tag && offsets_[id + 1] - offsets_[id] == size && std::memcmp(token_bytes_ + offsets_[id], at, size) == 0)
      return static_cast<int32_t>(id);
  }
}

}  // namespace ek
