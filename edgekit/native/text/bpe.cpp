#include "bpe.h"

#include <algorithm>

#include "../src/error.h"

namespace ek {
namespace {

/* Up to this size, looking at all ranks for each merge is faster than keeping them in a heap. */
constexpr size_t kShort = 48;
constexpr uint32_t kNone = UINT32_MAX;

}  // namespace

void Bpe::encode(const uint8_t *at, size_t size, std::vector<int32_t> &ids) {
  const int32_t whole = tables_.word(at, size);
  if (whole >= 0) return ids.push_back(whole);
  return size <= kShort ? encode_short(at, size, ids) : encode_long(at, size, ids);
}

void Bpe::encode_short(const uint8_t *at, size_t size, std::vector<int32_t> &ids) const {
  uint32_t symbols[kShort], ranks[kShort];
  size_t count = 0;
  for (size_t i = 0; i < size; ++i) {
    const int32_t id = tables_.byte_id(at[i]);
    if (id >= 0) symbols[count++] = static_cast<uint32_t>(id); /* the library, too, skips a byte without a token */
  }
  for (size_t i = 0; i + 1 < count; ++i) ranks[i] = tables_.merge_rank(symbols[i], symbols[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNone) break;
    symbols[best] = tables_.merged(ranks[best]);
    for (size_t i = best + 1; i + 1 < count; ++i) symbols[i] = symbols[i + 1];
    for (size_t i = best + 1; i + 2 < count; ++i) ranks[i] = ranks[i + 1];
    --count;
    if (best) ranks[best - 1] = tables_.merge_rank(symbols[best - 1], symbols[best]);
    if (best + 1 < count) ranks[best] = tables_.merge_rank(symbols[best], symbols[best + 1]);
  }
  for (size_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(symbols[i]));
}

void Bpe::encode_long(const uint8_t *at, size_t size, std::vector<int32_t> &ids) {
  if (size >= kNone) fail(EK_BAD_ARGUMENT, "a word of %zu bytes is too long to encode; allowed: below 4 GB", size);
  symbols_.clear();
  heap_.clear();
  for (size_t i = 0; i < size; ++i) {
    const int32_t id = tables_.byte_id(at[i]);
    const auto place = static_cast<uint32_t>(symbols_.size());
    if (id >= 0) symbols_.push_back({static_cast<uint32_t>(id), place - 1, place + 1});
  }
  const auto count = static_cast<uint32_t>(symbols_.size());
  if (!count) return;
  symbols_[0].previous = symbols_[count - 1].next = kNone;
  const auto later = [](const Candidate &a, const Candidate &b) { return a.rank != b.rank ? a.rank > b.rank : a.at > b.at; };
  const auto rank_at = [&](uint32_t i) {
    const uint32_t next = symbols_[i].next;
    return next == kNone ? kNone : tables_.merge_rank(symbols_[i].id, symbols_[next].id);
  };
  for (uint32_t i = 0; i + 1 < count; ++i)
    if (const uint32_t rank = rank_at(i); rank != kNone) heap_.push_back({rank, i});
  std::make_heap(heap_.begin(), heap_.end(), later);
  const auto add = [&](uint32_t i) {
    const uint32_t rank = rank_at(i);
    if (rank == kNone) return;
    heap_.push_back({rank, i});
    std::push_heap(heap_.begin(), heap_.end(), later);
  };
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    const Candidate best = heap_.back();
    heap_.pop_back();
    Symbol &symbol = symbols_[best.at];
    if (symbol.id == kNone || rank_at(best.at) != best.rank) continue; /* one of the two was merged since */
    Symbol &right = symbols_[symbol.next];
    symbol.id = tables_.merged(best.rank);
    symbol.next = right.next;
    right.id = kNone;
    if (symbol.next != kNone) symbols_[symbol.next].previous = best.at;
    if (symbol.previous != kNone) add(symbol.previous);
    add(best.at);
  }
  for (uint32_t i = 0; i != kNone; i = symbols_[i].next) ids.push_back(static_cast<int32_t>(symbols_[i].id));
}

}  // namespace ek
