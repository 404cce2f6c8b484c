/* A libFuzzer target. The input is a model.onnx; its data is 1 MiB long, and the address sanitizer guards its end. Everything
 * that the readers accept must be inside the data: the target reads both ends of every array that a session reads.
 *
 *   cmake -S edgekit/native -B build/fuzz -DEDGEKIT_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++ && cmake --build build/fuzz \
 *       --target onnx_file_fuzz
 *   python tests/support/fuzz_corpus.py corpus && build/fuzz/onnx_file_fuzz -max_total_time=60 corpus/onnx
 */
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "src/error.h"
#include "src/half.h"
#include "src/model.h"

namespace {

constexpr uint64_t kDataBytes = 1 << 20;

volatile uint8_t sink;

void touch(const void *array, int64_t bytes) {
  const auto *at = static_cast<const uint8_t *>(array);
  sink = at[0];
  sink = at[bytes - 1];
}

void touch(const ek::Matrix &w) {
  touch(w.codes, w.n * w.row_bytes());
  touch(w.scales, w.n * w.blocks() * (w.half_scales ? 2 : 4));
  if (w.zero_points) touch(w.zero_points, w.n * ((w.blocks() * w.bits + 7) / 8));
  if (w.bias) touch(w.bias, w.n * 4);
  if (reinterpret_cast<uintptr_t>(w.scales) % (w.half_scales ? 2 : 4)) std::abort(); /* must be aligned */
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static uint8_t *const data = static_cast<uint8_t *>(std::malloc(kDataBytes));
  static const bool filled = [] {
    for (uint64_t i = 0; i < kDataBytes; ++i) data[i] = static_cast<uint8_t>(i * 131 + i / 251);
    return true;
  }();
  (void)filled;
  try {
    const ek::Model model(bytes, size, data, kDataBytes);
    touch(model.embedding);
    touch(model.lm_head);
    for (const ek::Layer &layer : model.layers)
      for (const ek::Matrix *w : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) touch(*w);
    const int64_t rotary = model.context_length * (model.head_dim / 2) * (model.half_rotary ? 2 : 4);
    touch(model.rotary_cos, rotary);
    touch(model.rotary_sin, rotary);
  } catch (const ek::Error &) {
  }
  return 0;
}
