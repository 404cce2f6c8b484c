#include "lookup.h"

#include <algorithm>

namespace ek {
namespace {

constexpr int kHashBits = 14;
constexpr int kMostPlaces = 24; /* the latest places that are looked at */

}  // namespace

Lookup::Lookup() : latest_(size_t{1} << kHashBits, -1) {}

void Lookup::clear() {
  ids_.clear();
  previous_.clear();
  std::fill(latest_.begin(), latest_.end(), -1);
}

uint32_t Lookup::hash_of_end() const {
  uint64_t hash = 0;
  for (size_t i = ids_.size() - kGram; i < ids_.size(); ++i) hash = (hash ^ static_cast<uint32_t>(ids_[i])) * 0x9E3779B97F4A7C15u;
  return static_cast<uint32_t>(hash >> (64 - kHashBits));
}

void Lookup::add(int32_t id) {
  ids_.push_back(id);
  previous_.push_back(-1);
  if (size() < kGram) return;
  int32_t &latest = latest_[hash_of_end()];
  previous_.back() = latest;
  latest = static_cast<int32_t>(size());
}

/* How many tokens before `end` are the same as at the end of the text. */
int64_t Lookup::match(int64_t end) const {
  int64_t length = 0;
  while (length < kMostMatch && length < end && ids_[static_cast<size_t>(end - 1 - length)] == ids_[static_cast<size_t>(size() - 1 - length)])
    ++length;
  return length;
}

/* The token at a place, also behind the end of the text: a text that repeats itself goes on with its guesses. */
int32_t Lookup::id_at(int64_t at, const std::vector<int32_t> &out, size_t guesses) const {
  return at < size() ? ids_[static_cast<size_t>(at)] : out[guesses + static_cast<size_t>(at - size())];
}

int64_t Lookup::guess(int64_t most, std::vector<int32_t> &out) const {
  if (size() <= kGram || most < 1) return 0;
  std::vector<int64_t> ends;
  int64_t longest = 0, best = 0;
  int32_t end = previous_.back();
  for (int i = 0; i < kMostPlaces && end >= 0; ++i, end = previous_[static_cast<size_t>(end - 1)]) {
    const int64_t length = match(end);
    if (length < kGram) continue; /* another gram with the same hash */
    ends.push_back(end);
    if (length > longest) longest = length, best = end;
    if (longest == kMostMatch) break;
  }
  const size_t before = out.size();
  if (longest >= kLongMatch) ends.assign(1, best);
  vote(ends, most, out);
  return out.size() > before ? longest : 0;
}

void Lookup::vote(std::vector<int64_t> &ends, int64_t most, std::vector<int32_t> &out) const {
  const bool alone = ends.size() == 1;
  const size_t before = out.size(), least = alone ? 1 : 2;
  for (int64_t step = 0; step < most; ++step) {
    const auto id = [&](int64_t end) { return id_at(end + step, out, before); };
    const auto votes = [&](int32_t candidate) {
      return static_cast<size_t>(std::count_if(ends.begin(), ends.end(), [&](int64_t end) { return id(end) == candidate; }));
    };
    int32_t chosen = -1;
    for (const int64_t end : ends)
      if (chosen < 0 && 2 * votes(id(end)) > ends.size()) chosen = id(end);
    if (chosen < 0 || votes(chosen) < least) return;
    ends.erase(std::remove_if(ends.begin(), ends.end(), [&](int64_t end) { return id(end) != chosen; }), ends.end());
    out.push_back(chosen);
  }
}

}  // namespace ek
