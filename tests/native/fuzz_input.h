/* What the fuzz targets of the C API share: arguments that the input chooses, and an artifact. */
#ifndef EDGEKIT_TESTS_FUZZ_INPUT_H
#define EDGEKIT_TESTS_FUZZ_INPUT_H

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>

#include "edgekit_tools.h"
#include "small_artifact.h"
#include "small_text.h"
#include "src/abi.h"

namespace {

inline void expect(bool good) {
  if (!good) std::abort();
}

/* A status that a caller's mistake may have. */
inline int checked(int status) {
  expect(status >= EK_OK && status <= EK_FORKED && status != EK_INTERNAL);
  return status;
}

struct Input {
  const uint8_t *at, *end;
  uint8_t byte() { return at == end ? 0 : *at++; }
  /* Mostly small numbers, and those at which something may overflow. */
  int64_t number() {
    static const int64_t special[] = {0, -1, 1, 2, 7, 64, 800, 801, 1 << 20, std::numeric_limits<int32_t>::max(),
                                      std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
    const uint8_t kind = byte();
    return kind < 128 ? kind % 40 : special[kind % (sizeof special / sizeof special[0])];
  }
  float real() {
    static const float special[] = {0, 1, 0.5f, -1, 1e-40f, 1e30f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()};
    return special[byte() % 8];
  }
  /* A token id, rarely one outside the vocabulary. */
  int32_t id() { return byte() % 90 - 2; }
};

/* The small artifact, opened once. */
struct FuzzArtifact {
  ek_model *model = nullptr;
  ek_text *text = nullptr;

  FuzzArtifact() {
    char folder[] = "/tmp/edgekit-fuzz-XXXXXX";
    expect(mkdtemp(folder) != nullptr);
    ::setenv("EDGEKIT_ISA", "scalar", 1);
    const SmallArtifact artifact;
    SmallText small;
    small.joints.assign(kChatStrings, "?");
    small.fill();
    const std::vector<uint64_t> words = small.file();
    const auto write = [&](const char *name, const void *data, size_t count) {
      std::ofstream(std::string(folder) + "/" + name, std::ios::binary).write(static_cast<const char *>(data), static_cast<std::streamsize>(count));
    };
    write("model.onnx", artifact.graph.data(), artifact.graph.size());
    write("model.onnx.data", artifact.data.data(), artifact.data.size());
    write(kTextFile, words.data(), words.size() * 8);
    expect(ek_model_open(folder, &model) == EK_OK && ek_text_open(folder, &text) == EK_OK);
    for (const char *name : {"model.onnx", "model.onnx.data", kTextFile}) ::unlink((std::string(folder) + "/" + name).c_str());
    ::rmdir(folder); /* what is mapped stays */
  }
};

}  // namespace

#endif
