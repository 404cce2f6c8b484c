/* A small artifact as files, and a session of it. */
#ifndef EDGEKIT_TESTS_SMALL_FOLDER_H
#define EDGEKIT_TESTS_SMALL_FOLDER_H

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "edgekit.h"
#include "refuses.h"
#include "small_artifact.h"

namespace {

/* A small artifact as files, removed at the end. */
struct Folder {
  const SmallArtifact artifact;
  char name[32] = "/tmp/edgekit-test-XXXXXX";
  std::string graph, data, state;

  Folder() {
    CHECK(mkdtemp(name) != nullptr);
    graph = std::string(name) + "/model.onnx";
    data = graph + ".data";
    state = std::string(name) + "/state";
    std::ofstream(graph, std::ios::binary) << artifact.graph;
    std::ofstream(data, std::ios::binary).write(reinterpret_cast<const char *>(artifact.data.data()), static_cast<std::streamsize>(artifact.data.size()));
  }
  ~Folder() {
    for (const std::string &file : {graph, data, state}) unlink(file.c_str());
    rmdir(name);
  }
};

/* A model with a session of `context` positions. */
struct Opened {
  const Folder files;
  ek_model *model = nullptr;
  ek_session *session = nullptr;
  explicit Opened(int64_t context, int threads) {
    CHECK(ek_model_open(files.name, &model) == EK_OK && ek_session_create(model, context, threads, EK_KV_FLOAT16, &session) == EK_OK);
  }
  ~Opened() {
    ek_session_free(session);
    ek_model_close(model);
  }
};

}  // namespace

#endif  // EDGEKIT_TESTS_SMALL_FOLDER_H
