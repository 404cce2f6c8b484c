/* A libFuzzer target. The input is a list of edits of a saved session: four bytes each, of which two are the place and one is the
 * new value. The first byte says whether the checksum is made right and whether the file is cut or grows. Whatever is loaded must
 * be a session that evaluates, and whatever is refused must leave one. */
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "small_artifact.h"
#include "src/error.h"
#include "src/session.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const SmallArtifact artifact;
  static const std::shared_ptr<const Model> model = artifact.open();
  static Session session(model, kScalar, 8, 1, KvType::kInt8);
  static const std::string path = "/tmp/edgekit-state-fuzz-" + std::to_string(::getpid());
  static const std::vector<uint8_t> good = [] {
    const int32_t ids[] = {3, 1, 4};
    std::vector<float> logits(kVocab);
    session.evaluate(ids, 3, false, logits.data());
    session.save(path);
    session.rewind(0);
    std::vector<uint8_t> read(100000);
    std::FILE *file = std::fopen(path.c_str(), "rb");
    read.resize(std::fread(read.data(), 1, read.size(), file));
    std::fclose(file);
    return read;
  }();
  if (size == 0) return 0;
  std::vector<uint8_t> state = good;
  for (size_t i = 1; i + 3 < size; i += 4) state[(bytes[i] | bytes[i + 1] << 8) % state.size()] = bytes[i + 2];
  if (bytes[0] & 2) state.resize(size > 2 ? (bytes[1] | bytes[2] << 8) % (2 * good.size()) : 0);
  if (bytes[0] & 1 && state.size() > 52) { /* as Session::save() adds it up: the header, the ids, the ranges of the cache */
    Checksum sum;
    sum.add(state.data(), 32);
    int64_t positions;
    std::memcpy(&positions, &state[24], sizeof positions);
    const auto ids = static_cast<size_t>(positions < 0 || positions > 8 ? 3 : positions) * 4;
    size_t at = 32 + ids;
    if (at < state.size() - 8) sum.add(&state[32], ids);
    /* Each head: whole groups of 16 keys (none of up to 8 positions), the last group, values, and the scales of both. */
    const size_t n = ids / 4;
    std::vector<size_t> ranges = {0};
    if (n) ranges.push_back(16 * kHeadDim);
    ranges.insert(ranges.end(), {n * kHeadDim, 4 * n, 4 * n});
    for (int64_t head = 0; head < 2 * kKvHeads; ++head)
      for (const size_t range : ranges)
        if (at + range <= state.size() - 8) {
          sum.add(&state[at], range);
          at += range;
        }
    const uint64_t value = sum.value();
    std::memcpy(&state[state.size() - 8], &value, 8);
  }
  std::FILE *file = std::fopen(path.c_str(), "wb");
  if (!file || std::fwrite(state.data(), 1, state.size(), file) != state.size() || std::fclose(file) != 0) std::abort();
  bool refused = false;
  try {
    session.load(path);
  } catch (const Error &) {
    refused = true;
  }
  ::unlink(path.c_str());
  if (session.position() != 0 && refused) std::abort(); /* it was empty */
  if (refused && bytes[0] % 16) return 0; /* evaluating takes most of the time */
  std::vector<float> logits(kVocab);
  if (session.position() == 8) session.rewind(0);
  const int32_t id = 5;
  session.evaluate(&id, 1, false, logits.data());
  session.rewind(0);
  return 0;
}
