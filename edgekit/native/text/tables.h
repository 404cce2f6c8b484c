/* edgekit_text.bin: everything the library needs to know about text, as tables that are used as they lie in the file.
 *
 * The file is little-endian. It is written by edgekit/build/text_file.py.
 *
 *   0    magic "EKTEXT\r\n"
 *   8    uint32 format version, uint32 number of sections
 *   16   uint64 size of the file, a multiple of 8
 *   24   uint64 checksum of the words of 8 bytes from 32 on
 *   32   for each section: uint32 kind, uint32 unused, uint64 offset (a multiple of 8), uint64 size in bytes
 *
 * Every section occurs once. */
#ifndef EDGEKIT_TEXT_TABLES_H
#define EDGEKIT_TEXT_TABLES_H

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../src/mapped_file.h"
#include "edgekit.h"
#include "words.h"

namespace ek {

constexpr const char *kTextFile = "edgekit_text.bin";
constexpr uint32_t kTextVersion = 1;

enum SectionKind : uint32_t {
  kTokenOffsets = 1, /* uint32 (tokens + 1): where the bytes of each token start */
  kTokenBytes = 2,   /* the bytes that each token stands for, without a separator */
  kTokenFlags = 3,   /* uint8 (tokens): TokenFlag */
  kByteIds = 4,      /* int32 (256): the token of each byte, or -1 if there is none */
  kWords = 5,        /* uint32, a power of two: a hash table of the tokens that a whole word becomes; see WordSlot */
  kMerges = 6,       /* uint64, a power of two: a hash table of pairs of tokens that are merged; see MergeSlot */
  kMerged = 7,       /* uint32: the token that each merge makes, by rank */
  kAdded = 8,        /* AddedToken: those looked for before normalization, then those looked for after; each sorted by text */
  kAddedText = 9,    /* their texts */
  kSettings = 10,    /* TextSettings */
  kStopIds = 11,     /* uint32: ids that end an answer */
  kStrings = 12,     /* uint32 number of texts, uint32 (number + 1) offsets from behind them, the texts */
  kSections = 12
};

enum TokenFlag : uint8_t {
  kHasText = 1, /* the id has a token */
  kSilent = 2,  /* special: left out when decoding */
  kControl = 4  /* one of the added tokens that text of messages must not turn into */
};

/* A slot of kWords: 11 bits of the hash, then the id in 21 bits. kNoWord is an empty slot. */
constexpr uint32_t kNoWord = UINT32_MAX, kIdBits = 21, kMostTokens = (1 << kIdBits) - 1;
/* A slot of kMerges: left, right and rank, 21 bits each. kNoMerge is an empty slot. */
constexpr uint64_t kNoMerge = UINT64_MAX;

enum AddedFlag : uint32_t {
  kSpecial = 1,
  kLeftStrip = 2,       /* takes in the white space before it */
  kRightStrip = 4,      /* and after it */
  kNormalized = 8,      /* looked for in normalized text */
  kSingleWord = 16,     /* not inside a word */
  kControlToken = 32,   /* what a user or the model writes is never this token */
  kControlInUsers = 64  /* what a user writes is never this token */
};

struct AddedToken {
  uint32_t id, offset, size, flags;
};

struct TextSettings {
  uint32_t raw_added; /* the number of added tokens that are looked for before normalization */
  uint32_t nfc;       /* 1: text is normalized */
  Split splits[2];    /* the second one splits the words of the first */
  int32_t bos;        /* or -1 */
  uint32_t adds_bos;
  uint32_t reasoning;
  ek_sampling sampling;
  uint32_t stop_texts; /* the first texts of kStrings */
  uint32_t has_chat;   /* 1: the other texts are ChatFormat's (chat.h) */
  uint32_t chat[6];    /* its numbers */
};

/* Hashes of kWords and kMerges: the slot is in the highest bits. */
uint64_t hash_word(const uint8_t *at, size_t size);
inline uint64_t hash_merge(uint64_t pair) { return pair * 0x9E3779B97F4A7C15u; }
uint64_t text_checksum(const uint8_t *words, uint64_t count);

class Tables {
 public:
  explicit Tables(const std::string &folder);          /* throws Error */
  Tables(const uint8_t *bytes, uint64_t size);         /* the caller keeps the bytes, which start at a multiple of 8 */

  uint32_t tokens = 0;
  TextSettings settings{};
  std::vector<int32_t> stop_ids;
  std::vector<std::string_view> strings;
  uint32_t added_count = 0;
  /* The first bytes of the added tokens that are looked for before normalization, and after. */
  struct Firsts {
    bool begins[256];
    int count, only; /* how many there are; one of them */
  } firsts[2] = {};

  std::string_view token(uint32_t id) const {
    return {reinterpret_cast<const char *>(token_bytes_ + offsets_[id]), offsets_[id + 1] - offsets_[id]};
  }
  uint8_t flags(uint32_t id) const { return flags_[id]; }
  int32_t byte_id(uint8_t byte) const { return byte_ids_[byte]; }
  const AddedToken &added(uint32_t index) const { return added_[index]; }
  std::string_view added_text(const AddedToken &added) const {
    return {reinterpret_cast<const char *>(added_text_ + added.offset), added.size};
  }

  /* The token that a whole word becomes, or -1 if it becomes several. */
  int32_t word(const uint8_t *at, size_t size) const;
  /* The rank of the merge of two tokens, or UINT32_MAX. */
  uint32_t merge_rank(uint32_t left, uint32_t right) const {
    const uint64_t pair = static_cast<uint64_t>(left) << kIdBits | right;
    for (uint64_t slot = hash_merge(pair) >> merge_shift_;; slot = (slot + 1) & merge_mask_) {
      const uint64_t found = merges_[slot];
      if (found >> kIdBits == pair) return static_cast<uint32_t>(found & kMostTokens);
      if (found == kNoMerge) return UINT32_MAX;
    }
  }
  uint32_t merged(uint32_t rank) const { return merged_[rank]; }

 private:
  void read();
  void check_tokens();
  void check_hashes();
  void check_added();
  void read_strings();
  template <typename T>
  const T *section(SectionKind kind, uint64_t &count) const;

  MappedFile file_;
  const uint32_t *offsets_ = nullptr, *words_ = nullptr, *merged_ = nullptr;
  const uint8_t *token_bytes_ = nullptr, *flags_ = nullptr, *added_text_ = nullptr;
  const int32_t *byte_ids_ = nullptr;
  const uint64_t *merges_ = nullptr;
  const AddedToken *added_ = nullptr;
  uint64_t word_mask_ = 0, merge_mask_ = 0, merged_count_ = 0;
  int word_shift_ = 63, merge_shift_ = 63;
};

}  // namespace ek

#endif
