/* Text to ids and ids to text, with the same ids as Hugging Face's tokenizers library.
 *
 *   text -> valid UTF-8 -> split at added tokens -> NFC -> split at added tokens that are looked for after it
 *        -> words (words.h) -> tokens (bpe.h) */
#ifndef EDGEKIT_TEXT_TOKENIZER_H
#define EDGEKIT_TEXT_TOKENIZER_H

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bpe.h"
#include "tables.h"
#include "unicode.h"

namespace ek {

/* Who wrote a part of a text. It decides which added tokens the part may become. */
enum class Writer : uint8_t {
  kTemplate, /* all */
  kUser,     /* no control tokens */
  kAnswer    /* no control tokens that end or begin a turn or a thought; but for example <tool_call> */
};

/* A text whose parts have different writers. Invalid UTF-8 is replaced when a part is added. */
struct WrittenText {
  struct Part {
    size_t end; /* in `text` */
    Writer writer;
  };
  std::string text;
  std::vector<Part> parts;
  void add(std::string_view more, Writer writer);
};

/* Where the encoder reports the ends of words instead of encoding them, for tests. */
struct WordEnds {
  std::string normalized;
  std::vector<int64_t> ends;
};

class Encoder {
 public:
  explicit Encoder(const Tables &tables) : tables_(tables), bpe_(tables) {}

  /* Append the ids of a text. Throws Error: EK_UNSUPPORTED if the vocabulary cannot write a control token as text. */
  void encode(const WrittenText &text, std::vector<int32_t> &ids);

  /* Normalize a text and split it into words, without looking for added tokens. */
  void words(std::string_view text, WordEnds &out);

 private:
  struct Source; /* what an offset in the text that is searched means in the text with writers */
  template <typename Piece>
  void split_at_added(std::string_view text, bool normalized, const Source &source, std::vector<int32_t> &ids, Piece piece);
  const AddedToken *longest_at(std::string_view text, size_t at, bool normalized) const;
  void encode_raw_piece(std::string_view piece, const Source &source, size_t start, std::vector<int32_t> &ids);
  void encode_words(std::string_view piece, std::vector<int32_t> &ids);
  void encode_plain(std::string_view piece, std::vector<int32_t> &ids);
  template <typename Word>
  void each_word(std::string_view piece, Word word) const;
  bool is_control(int32_t id) const { return tables_.flags(static_cast<uint32_t>(id)) & kControl; }

  const Tables &tables_;
  Bpe bpe_;
};

/* Make ids begin with exactly one bos if they begin with any, or if `add` is true and the model has one. */
void apply_bos(const Tables &tables, bool add, std::vector<int32_t> &ids);

/* Append the bytes of ids, without special tokens and ids that have no token. */
void append_token_bytes(const Tables &tables, const int32_t *ids, int64_t count, std::string &out);

/* The text of ids; what is not valid UTF-8 becomes U+FFFD. */
std::string decode(const Tables &tables, const int32_t *ids, int64_t count);

/* Whether decoding leaves an id out. */
bool is_silent(const Tables &tables, int32_t id);

/* The id of an added token with this text, or -1. */
int32_t added_token_id(const Tables &tables, std::string_view text);

}  // namespace ek

#endif
