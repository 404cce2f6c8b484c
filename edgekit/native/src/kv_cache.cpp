#include "kv_cache.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <string>

#include "error.h"
#include "memory.h"

namespace ek {
namespace {

int64_t checked(const Model &model, int64_t context) {
  if (context < 1 || context > model.context_length)
    fail(EK_CONTEXT, "cannot create a session with a context of %" PRId64 " tokens; this model allows 1 to %" PRId64, context,
         model.context_length);
  return context;
}

}  // namespace

KvCache::KvCache(const Model &model, int64_t context, KvType type)
    : KvCache(model.num_layers, model.num_kv_heads, model.head_dim, checked(model, context), type) {}

KvCache::KvCache(int64_t layers, int64_t kv_heads, int64_t head_dim, int64_t context, KvType type)
    : type_(type), context_(context), kv_heads_(kv_heads), head_dim_(head_dim) {
  padded_ = (context + kKvBlock - 1) / kKvBlock * kKvBlock;
  heads_ = static_cast<size_t>(layers * kv_heads_);
  need_memory(allocated(), "the KV cache of " + std::to_string(context) + " positions");
  keys_ = Buffer<uint8_t>(heads_ * row_bytes());
  values_ = Buffer<uint8_t>(heads_ * row_bytes());
  scales_ = Buffer<float>(heads_ * scale_bytes() / sizeof(float));
}

KvRows KvCache::keys(int64_t layer, int64_t head) const {
  const size_t at = index(layer, head);
  return {keys_.get() + at * row_bytes(), scale_bytes() ? scales_.get() + at * 2 * static_cast<size_t>(padded_) : nullptr};
}

KvRows KvCache::values(int64_t layer, int64_t head) const {
  const size_t at = index(layer, head);
  return {values_.get() + at * row_bytes(),
          scale_bytes() ? scales_.get() + (at * 2 + 1) * static_cast<size_t>(padded_) : nullptr};
}

void KvCache::store(const Kernels &kernels, int64_t layer, int64_t head, int64_t position, const float *k, const float *v) {
  const auto put = [&](const KvRows &rows, const float *x, int64_t at, int64_t stride) {
    auto *to = const_cast<uint8_t *>(static_cast<const uint8_t *>(rows.rows)) + static_cast<size_t>(at) * item();
    kernels.store_kv(x, head_dim_, type_, to, stride, rows.scales ? const_cast<float *>(rows.scales) + position : nullptr);
  };
  put(keys(layer, head), k, position / kKeyLanes * kKeyLanes * head_dim_ + position % kKeyLanes, kKeyLanes);
  put(values(layer, head), v, position * head_dim_, 1);
}

template <typename Work>
bool KvCache::for_each_range(int64_t begin, int64_t end, Work work) const {
  const auto bytes = [&](int64_t positions) { return static_cast<size_t>(positions * head_dim_) * item(); };
  const int64_t lanes = (end - begin) % kKeyLanes;
  const size_t skipped = bytes(begin), used = bytes(end - begin), full = bytes(end - begin - lanes);
  for (size_t at = 0; at < heads_; ++at) {
    uint8_t *const keys = keys_.get() + at * row_bytes() + skipped;
    if (!work(keys, full, 0) || (lanes && !work(keys + full, bytes(kKeyLanes), lanes)) ||
        !work(values_.get() + at * row_bytes() + skipped, used, 0))
      return false;
    for (size_t kind = 0; scale_bytes() && kind < 2; ++kind)
      if (!work(reinterpret_cast<uint8_t *>(scales_.get() + (at * 2 + kind) * static_cast<size_t>(padded_) + begin),
                sizeof(float) * static_cast<size_t>(end - begin), 0))
        return false;
  }
  return true;
}

void KvCache::get_block(int64_t block, uint8_t *bytes) const {
  for_each_range(block * kKvBlock, (block + 1) * kKvBlock, [&](const uint8_t *from, size_t count, int64_t) {
    std::memcpy(bytes, from, count);
    bytes += count;
    return true;
  });
}

void KvCache::set_block(int64_t block, const uint8_t *bytes) {
  for_each_range(block * kKvBlock, (block + 1) * kKvBlock, [&](uint8_t *to, size_t count, int64_t) {
    std::memcpy(to, bytes, count);
    bytes += count;
    return true;
  });
}

void KvCache::copy(const KvCache &other, int64_t length) {
  std::vector<std::pair<const uint8_t *, size_t>> from;
  other.for_each_range(0, length, [&](const uint8_t *bytes, size_t count, int64_t) {
    from.emplace_back(bytes, count);
    return true;
  });
  size_t next = 0;
  for_each_range(0, length, [&](uint8_t *bytes, size_t count, int64_t) {
    std::memcpy(bytes, from[next++].first, count);
    return true;
  });
}

bool KvCache::write(std::FILE *file, int64_t length, Checksum &sum) const {
  std::vector<uint8_t> group;
  return for_each_range(0, length, [&](const uint8_t *bytes, size_t count, int64_t lanes) {
    if (lanes) { /* the other lanes have keys of tokens that the session has no more, or guesses */
      group.assign(bytes, bytes + count);
      const size_t lane = item(), stride = kKeyLanes * lane, kept = static_cast<size_t>(lanes) * lane;
      for (size_t at = 0; at < count; at += stride) std::memset(&group[at + kept], 0, stride - kept);
      bytes = group.data();
    }
    sum.add(bytes, count);
    return std::fwrite(bytes, 1, count, file) == count;
  });
}

bool KvCache::read(std::FILE *file, int64_t length, Checksum &sum) {
  return for_each_range(0, length, [&](uint8_t *bytes, size_t count, int64_t) {
    if (std::fread(bytes, 1, count, file) != count) return false;
    sum.add(bytes, count);
    return true;
  });
}

uint64_t KvCache::written_bytes(int64_t length) const {
  uint64_t total = 0;
  for_each_range(0, length, [&](const uint8_t *, size_t count, int64_t) {
    total += count;
    return true;
  });
  return total;
}

}  // namespace ek
