/* Byte-pair encoding: the tokens of one word. */
#ifndef EDGEKIT_TEXT_BPE_H
#define EDGEKIT_TEXT_BPE_H

#include <cstdint>
#include <vector>

#include "tables.h"

namespace ek {

class Bpe {
 public:
  explicit Bpe(const Tables &tables) : tables_(tables) {}
  /* Append the tokens of a word of at least one byte. Pairs are merged in the order of their ranks, and from left to right
   * where ranks are equal. Time: linear in the size times its logarithm. */
  void encode(const uint8_t *at, size_t size, std::vector<int32_t> &ids);

 private:
  void encode_short(const uint8_t *at, size_t size, std::vector<int32_t> &ids) const;
  void encode_long(const uint8_t *at, size_t size, std::vector<int32_t> &ids);

  struct Symbol {
    uint32_t id, previous, next;
  };
  struct Candidate {
    uint32_t rank, at;
  };
  const Tables &tables_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace ek

#endif
