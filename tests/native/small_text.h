/* A small edgekit_text.bin: a vocabulary of bytes with a few merges and control tokens, and a chat format. */
#ifndef EDGEKIT_TESTS_SMALL_TEXT_H
#define EDGEKIT_TESTS_SMALL_TEXT_H

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "text/chat.h"
#include "text/tables.h"

namespace {

using namespace ek;

struct SmallText {
  struct Added {
    std::string text;
    uint32_t flags;
  };
  std::vector<std::string> tokens; /* the bytes, the merged tokens, the added tokens */
  std::vector<std::pair<std::string, std::string>> merges{{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {" ", "w"}};
  std::vector<Added> added{{"<a>", kSpecial | kControlToken}, {"</think>", kControlToken}, {"<think>", kControlToken},
                           {"<u>", kSpecial | kControlToken}, {"<tool>", kControlInUsers}, {"<s>", kLeftStrip | kRightStrip},
                           {"one", kSingleWord}};
  std::vector<std::string> joints = std::vector<std::string>(kChatStrings);
  std::vector<std::string> stop_texts{"STOP"};
  std::vector<uint32_t> stop_ids;
  TextSettings settings{};
  std::string section[kSections + 1];

  SmallText() {
    settings.splits[0] = {kCl100k, 3};
    settings.nfc = 1;
    settings.bos = -1;
    settings.sampling = {0, 1, 0, 1, 0};
    settings.has_chat = 1;
    settings.reasoning = 1;
    settings.chat[kOpensThought] = 1;
    joint(kEdge, kUser, "<u>");
    joint(kEdge, kSystem, "");
    joint(kSystem, kUser, "<u>");
    joint(kUser, kAssistant, "<a>");
    joint(kAssistant, kUser, "<u>");
    joint(kUser, kEdge, "<a><think>\n");
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    for (const auto &[left, right] : merges) tokens.push_back(left + right);
    for (const Added &each : added) tokens.push_back(each.text);
  }
  void joint(uint32_t from, uint32_t to, const std::string &text) {
    joints[kSides * from + to] = text;
    settings.chat[kJoints] |= 1u << (kSides * from + to);
  }
  int32_t id(const std::string &token) const {
    return static_cast<int32_t>(std::find(tokens.begin(), tokens.end(), token) - tokens.begin());
  }
  template <typename T>
  static std::string raw(const std::vector<T> &values) {
    return {reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T)};
  }

  void fill() {
    std::vector<uint32_t> offsets{0}, words(1024, kNoWord), merged, records;
    std::vector<uint64_t> table(64, kNoMerge);
    std::vector<uint8_t> flags;
    std::vector<int32_t> byte_ids;
    std::string bytes, added_text;
    const auto first_added = static_cast<int32_t>(256 + merges.size());
    for (const std::string &token : tokens) {
      bytes += token;
      offsets.push_back(static_cast<uint32_t>(bytes.size()));
      uint8_t flag = kHasText;
      for (const Added &each : added)
        if (each.text == token && id(token) >= first_added)
          flag = static_cast<uint8_t>(flag | (each.flags & kSpecial ? kSilent : 0) | (each.flags & (kControlToken | kControlInUsers) ? kControl : 0));
      flags.push_back(flag);
      if (id(token) >= first_added) continue;
      const uint64_t hash = hash_word(reinterpret_cast<const uint8_t *>(token.data()), token.size());
      uint64_t slot = hash >> (64 - 10);
      while (words[slot] != kNoWord) slot = (slot + 1) % words.size();
      words[slot] = static_cast<uint32_t>(hash & 0x7FF) << kIdBits | static_cast<uint32_t>(id(token));
    }
    for (const auto &[left, right] : merges) {
      const uint64_t pair = static_cast<uint64_t>(id(left)) << kIdBits | static_cast<uint64_t>(id(right));
      uint64_t slot = hash_merge(pair) >> (64 - 6);
      while (table[slot] != kNoMerge) slot = (slot + 1) % table.size();
      table[slot] = pair << kIdBits | merged.size();
      merged.push_back(static_cast<uint32_t>(id(left + right)));
    }
    for (int byte = 0; byte < 256; ++byte) byte_ids.push_back(byte);
    std::sort(added.begin(), added.end(), [](const Added &a, const Added &b) {
      return std::make_pair(a.flags & kNormalized, a.text) < std::make_pair(b.flags & kNormalized, b.text);
    });
    for (const Added &each : added) {
      settings.raw_added += !(each.flags & kNormalized);
      records.insert(records.end(), {static_cast<uint32_t>(id(each.text)), static_cast<uint32_t>(added_text.size()),
                                     static_cast<uint32_t>(each.text.size()), each.flags});
      added_text += each.text;
    }
    settings.stop_texts = static_cast<uint32_t>(stop_texts.size());
    std::vector<std::string> strings = stop_texts;
    strings.insert(strings.end(), joints.begin(), joints.end());
    std::vector<uint32_t> places{static_cast<uint32_t>(strings.size()), 0};
    std::string texts;
    for (const std::string &text : strings) {
      texts += text;
      places.push_back(static_cast<uint32_t>(texts.size()));
    }
    section[kTokenOffsets] = raw(offsets);
    section[kTokenBytes] = bytes;
    section[kTokenFlags] = raw(flags);
    section[kByteIds] = raw(byte_ids);
    section[kWords] = raw(words);
    section[kMerges] = raw(table);
    section[kMerged] = raw(merged);
    section[kAdded] = raw(records);
    section[kAddedText] = added_text;
    section[kSettings] = std::string(reinterpret_cast<const char *>(&settings), sizeof settings);
    section[kStopIds] = raw(stop_ids);
    section[kStrings] = raw(places) + texts;
  }

  /* The file, in words of 8 bytes. */
  std::vector<uint64_t> file() const {
    std::string head("EKTEXT\r\n"), body;
    const auto put = [](std::string &to, uint64_t value, size_t size) { to.append(reinterpret_cast<const char *>(&value), size); };
    uint64_t offset = 32 + 24 * kSections;
    for (uint32_t kind = 1; kind <= kSections; ++kind) {
      put(body, kind, 8);
      put(body, offset, 8);
      put(body, section[kind].size(), 8);
      offset += (section[kind].size() + 7) / 8 * 8;
    }
    for (uint32_t kind = 1; kind <= kSections; ++kind) {
      body += section[kind];
      body.append((8 - body.size() % 8) % 8, '\0');
    }
    put(head, kTextVersion, 4);
    put(head, kSections, 4);
    put(head, 32 + body.size(), 8);
    put(head, text_checksum(reinterpret_cast<const uint8_t *>(body.data()), body.size() / 8), 8);
    const std::string whole = head + body;
    std::vector<uint64_t> words(whole.size() / 8);
    std::memcpy(words.data(), whole.data(), whole.size());
    return words;
  }
};

/* The tables of a small text, with the bytes that they lie in. */
struct OpenText {
  std::vector<uint64_t> bytes;
  std::shared_ptr<const Tables> tables;
  explicit OpenText(SmallText text = {}) {
    text.fill();
    bytes = text.file();
    tables = std::make_shared<const Tables>(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size() * 8);
  }
};

}  // namespace

#endif
