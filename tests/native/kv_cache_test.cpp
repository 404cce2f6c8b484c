/* Tests the layout of the KV cache, and copies and files of it, for odd lengths and both types. */
#include <cmath>
#include <cstdio>
#include <vector>

#include "check.h"
#include "src/half.h"
#include "src/kv_cache.h"

using namespace ek;

namespace {

constexpr int64_t kLayers = 2, kHeads = 3, kDim = 48, kContext = 70;

/* A number that identifies its place; all magnitudes are below 2. */
float number(int64_t layer, int64_t head, int64_t position, int64_t i, bool key) {
  const int64_t n = (((layer * kHeads + head) * kContext + position) * kDim + i) * 2 + key;
  return static_cast<float>(n * 7919 % 4001) / 2000.0f - 1.0f;
}

void fill(KvCache &cache, int64_t length) {
  std::vector<float> k(kDim), v(kDim);
  for (int64_t layer = 0; layer < kLayers; ++layer)
    for (int64_t head = 0; head < kHeads; ++head)
      for (int64_t t = 0; t < length; ++t) {
        for (int64_t i = 0; i < kDim; ++i) {
          k[static_cast<size_t>(i)] = number(layer, head, t, i, true);
          v[static_cast<size_t>(i)] = number(layer, head, t, i, false);
        }
        cache.store(kScalar, layer, head, t, k.data(), v.data());
      }
}

float stored(const KvRows &rows, KvType type, int64_t index, int64_t position) {
  if (type == KvType::kFloat16) return read_float(rows.rows, index, true);
  return static_cast<float>(static_cast<const int8_t *>(rows.rows)[index]) * rows.scales[position];
}

/* The first `length` positions are where kernels.h says, within the rounding of the type. */
void check_contents(const KvCache &cache, int64_t length) {
  const float tolerance = cache.type() == KvType::kInt8 ? 1.0f / 254 + 1e-6f : 1.0f / 4096;
  int wrong = 0;
  for (int64_t layer = 0; layer < kLayers; ++layer)
    for (int64_t head = 0; head < kHeads; ++head)
      for (int64_t t = 0; t < length; ++t)
        for (int64_t i = 0; i < kDim; ++i) {
          const int64_t key_index = (t / kKeyLanes * kDim + i) * kKeyLanes + t % kKeyLanes;
          const float key = stored(cache.keys(layer, head), cache.type(), key_index, t);
          const float value = stored(cache.values(layer, head), cache.type(), t * kDim + i, t);
          wrong += !(std::fabs(key - number(layer, head, t, i, true)) <= tolerance);
          wrong += !(std::fabs(value - number(layer, head, t, i, false)) <= tolerance);
        }
  CHECK(wrong == 0);
}

std::vector<char> written(const KvCache &cache, int64_t length, Checksum &sum) {
  std::FILE *file = std::tmpfile();
  sum = Checksum();
  CHECK(file && cache.write(file, length, sum));
  std::vector<char> bytes(static_cast<size_t>(std::ftell(file)));
  std::rewind(file);
  CHECK(std::fread(bytes.data(), 1, bytes.size(), file) == bytes.size());
  std::fclose(file);
  return bytes;
}

void check_type(KvType type) {
  KvCache cache(kLayers, kHeads, kDim, kContext, type);
  fill(cache, kContext);
  check_contents(cache, kContext);
  const size_t item = type == KvType::kInt8 ? 1 : 2, scale = type == KvType::kInt8 ? sizeof(float) : 0;
  CHECK(cache.bytes() == static_cast<size_t>(kLayers * kHeads * kContext) * 2 * (kDim * item + scale));
  for (const int64_t length : {int64_t{0}, int64_t{1}, int64_t{16}, int64_t{33}, int64_t{70}}) {
    KvCache shorter(kLayers, kHeads, kDim, length + 1, type), read(kLayers, kHeads, kDim, length + 20, type);
    shorter.copy(cache, length);
    check_contents(shorter, length);
    std::FILE *file = std::tmpfile();
    Checksum sum, found;
    CHECK(file && cache.write(file, length, sum) && std::ftell(file) == static_cast<long>(cache.written_bytes(length)));
    std::rewind(file);
    CHECK(read.read(file, length, found) && found.value() == sum.value());
    check_contents(read, length);
    CHECK(std::fgetc(file) == EOF);
    /* The same bytes as of a cache that never had more positions: nothing of those behind the end is written. */
    KvCache never(kLayers, kHeads, kDim, kContext, type);
    fill(never, length);
    Checksum other_sum;
    CHECK(written(cache, length, sum) == written(never, length, other_sum) && sum.value() == other_sum.value());
    std::fseek(file, 1, SEEK_SET); /* one byte is missing at the end */
    CHECK(read.read(file, length, found) == (length == 0));
    std::fclose(file);
  }
}

}  // namespace

int main() {
  check_type(KvType::kFloat16);
  check_type(KvType::kInt8);
  return finish("kv_cache_test");
}
