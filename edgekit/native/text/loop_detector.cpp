#include "loop_detector.h"

#include <algorithm>

namespace ek {
namespace {

constexpr int64_t kHistory = 2048, kLongestPeriod = 1024; /* tokens */
constexpr int64_t kGram = 8, kWindow = 384, kStale = kWindow * 97 / 100, kOld = 3;
constexpr int64_t kFewDifferent = 8, kLeastDifferent = 24;
constexpr int kSlotBits = 15, kIdBits = 12; /* 256 KB of slots: the sequences of 32768 tokens */

uint64_t mixed(uint64_t hash) {
  hash = (hash ^ hash >> 32) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 29;
}

size_t id_slot(int32_t id) { return static_cast<size_t>(mixed(static_cast<uint32_t>(id)) >> (64 - kIdBits)); }

}  // namespace

LoopDetector::LoopDetector(int quarters)
    : quarters_(quarters), history_(kHistory), slots_(size_t{1} << kSlotBits), is_stale_(kWindow), occurrences_(size_t{1} << kIdBits) {}

void LoopDetector::restart(int quarters) {
  quarters_ = quarters;
  exact_ = near_ = {};
  stale_ = different_ = window_ = stale_for_ = 0;
  std::fill(is_stale_.begin(), is_stale_.end(), uint8_t{0});
  std::fill(occurrences_.begin(), occurrences_.end(), uint16_t{0});
}

int32_t LoopDetector::before(int64_t distance) const { return history_[static_cast<size_t>((count_ - 1 - distance) % kHistory)]; }

LoopDetector::Slot *LoopDetector::find_gram() {
  if (count_ < kGram) return nullptr;
  uint64_t hash = 0;
  for (int64_t i = 0; i < kGram; ++i) hash = mixed(hash + static_cast<uint32_t>(before(i)) + 1);
  Slot &slot = slots_[static_cast<size_t>(hash >> (64 - kSlotBits))];
  const auto tag = static_cast<uint16_t>(hash);
  if (slot.tag != tag) slot = {0, tag, 0};
  return &slot;
}

void LoopDetector::compare(Comparison &comparison, int64_t allowed_misses, int64_t distance) {
  if (comparison.period) {
    ++comparison.length;
    comparison.misses += before(0) != before(comparison.period);
    if (comparison.misses <= allowed_misses) return;
    comparison = {};
  }
  if (distance) comparison = {distance, kGram, 0, false, false};
}

/* Whether the repetition is base + periods * period tokens long. */
bool LoopDetector::long_enough(Comparison &comparison, int64_t base, int64_t periods) {
  if (!comparison.period) return false;
  const int64_t length = 4 * (comparison.length + comparison.period);
  if (length < quarters_ * (base + periods * comparison.period)) return false;
  if (!comparison.measured) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < comparison.period && static_cast<int64_t>(ids.size()) < kFewDifferent; ++i)
      if (std::find(ids.begin(), ids.end(), before(i)) == ids.end()) ids.push_back(before(i));
    comparison.measured = true;
    comparison.few = static_cast<int64_t>(ids.size()) < kFewDifferent;
  }
  return !comparison.few || length >= quarters_ * (base + 256 + periods * comparison.period);
}

/* Move the window of the rule "stale". true: the rule holds. */
bool LoopDetector::add_to_window(bool old_gram) {
  uint8_t &place = is_stale_[static_cast<size_t>(count_ % kWindow)];
  if (window_ == kWindow) {
    stale_ -= place;
    different_ -= --occurrences_[id_slot(before(kWindow))] == 0;
  } else {
    ++window_;
  }
  place = old_gram;
  stale_ += old_gram;
  different_ += occurrences_[id_slot(before(0))]++ == 0;
  if (window_ < kWindow || stale_ < kStale || different_ < kLeastDifferent) {
    stale_for_ = 0;
    return false;
  }
  return 4 * (stale_for_++ + kWindow) >= quarters_ * kWindow;
}

bool LoopDetector::push(int32_t token) {
  history_[static_cast<size_t>(count_++ % kHistory)] = token;
  int64_t distance = 0;
  bool old_gram = false;
  if (Slot *slot = find_gram()) {
    const int64_t since = count_ - static_cast<int64_t>(slot->position);
    if (slot->position && since <= kLongestPeriod) distance = since;
    old_gram = slot->count >= kOld;
    slot->count = static_cast<uint16_t>(std::min<int64_t>(slot->count + 1, kOld));
    slot->position = static_cast<uint32_t>(count_);
  }
  compare(exact_, 0, distance);
  compare(near_, 1 + near_.length / 20, distance);
  const bool stale = add_to_window(old_gram);
  return long_enough(exact_, 256, 4) || long_enough(near_, 1536, 24) || stale;
}

int64_t LoopDetector::period() const { return exact_.period ? exact_.period : near_.period; }

std::vector<int32_t> LoopDetector::tokens() const {
  const int64_t reach = std::min({count_, kWindow, period() ? period() : kWindow});
  std::vector<int32_t> found;
  for (int64_t i = 0; i < reach; ++i)
    if (std::find(found.begin(), found.end(), before(i)) == found.end()) found.push_back(before(i));
  return found;
}

}  // namespace ek
