/* A libFuzzer target. The input chooses the arguments of a session and the fields of a request, also impossible ones. Each call
 * must return a status, and the session must be usable afterwards. */
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>

#include "small_artifact.h"
#include "small_text.h"
#include "src/abi.h"

namespace {

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
};

int stop_later(const ek_event *event, void *left) { return event->kind != EK_EVENT_DONE && --*static_cast<int *>(left) < 0; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static ek_model *model = nullptr;
  static ek_text *text = nullptr;
  static const bool opened = [] {
    char folder[] = "/tmp/edgekit-request-fuzz-XXXXXX";
    if (!mkdtemp(folder)) std::abort();
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
    return ek_model_open(folder, &model) == EK_OK && ek_text_open(folder, &text) == EK_OK;
  }();
  if (!opened) std::abort();
  Input in{bytes, bytes + size};
  ek_session *session = nullptr;
  const int64_t context = in.number();
  int status = ek_session_create(model, context, static_cast<int>(in.byte() % 3), in.byte() % 4 ? 0 : static_cast<int>(in.number()), &session);
  if (status != EK_OK) return 0;
  int32_t ids[64];
  for (int32_t &id : ids) id = in.byte() % 90 - 2;
  const char *stops[] = {"A", "", "BB", nullptr};
  const ek_message messages[] = {{in.byte() % 3 ? "user" : "system", "AB", in.byte() % 4 ? 2 : std::min<int64_t>(in.number(), 2), 0}, {"assistant", "</think>C", -1, in.byte() % 2},
                                 {in.byte() % 5 ? "user" : nullptr, in.byte() % 5 ? "D" : nullptr, 1, 0}};
  ek_sampling sampling{in.real(), in.real(), in.real(), in.real(), static_cast<int32_t>(in.number())};
  ek_request request{};
  request.size = in.byte() % 8 ? static_cast<int64_t>(sizeof request) : in.number();
  if (request.size > static_cast<int64_t>(sizeof request)) request.size = sizeof request; /* the rest is not the caller's */
  const uint8_t given = in.byte();
  if (given % 3 == 0) request.prompt_ids = ids, request.prompt_id_count = in.number() % 65;
  if (given % 3 == 1) request.prompt = "AB\xff<a>", request.prompt_bytes = in.byte() % 6 - 1;
  if (given % 3 == 2) request.messages = messages, request.message_count = in.byte() % 4;
  request.sampling = in.byte() % 2 ? &sampling : nullptr;
  request.has_seed = 1;
  request.seed = in.byte();
  request.ignore_stops = in.byte() % 2;
  request.max_tokens = in.number();
  request.max_thought_tokens = in.number();
  request.stop_texts = in.byte() % 4 ? stops : nullptr;
  request.stop_text_count = in.byte() % 5;
  request.stop_ids = in.byte() % 4 ? ids : nullptr;
  request.stop_id_count = in.number() % 65;
  request.loop_guard = static_cast<int32_t>(in.number());
  request.no_speculation = in.byte() % 2;
  int left = 6;
  status = ek_generate(session, text, &request, stop_later, &left);
  if (status == EK_INTERNAL) std::abort();
  std::vector<float> logits(kVocab);
  for (int i = 0; i < 4 && status != EK_FORKED; ++i) {
    const int64_t position = ek_session_position(session);
    switch (in.byte() % 5) {
      case 0: status = ek_session_rewind(session, in.number()); break;
      case 1: status = ek_session_evaluate(session, ids, in.number() % 65, 0, logits.data()); break;
      case 2: status = ek_session_next(session, ids[i], logits.data()); break;
      case 3: status = ek_session_tokens(session, ids, in.number() % 65); break;
      case 4: status = ek_prepare(session, text, messages, in.byte() % 4); break;
    }
    if (status == EK_INTERNAL || (status != EK_OK && ek_session_position(session) < 0) || position < 0) std::abort();
  }
  const int32_t id = 1;
  if (ek_session_rewind(session, 0) != EK_OK || ek_session_evaluate(session, &id, 1, 0, logits.data()) != EK_OK) std::abort();
  ek_session_free(session);
  return 0;
}
