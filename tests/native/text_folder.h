/* A small artifact with text tables as a folder, and what an answer of it tells. */
#ifndef EDGEKIT_TESTS_TEXT_FOLDER_H
#define EDGEKIT_TESTS_TEXT_FOLDER_H

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "edgekit_text.h"
#include "refuses.h"
#include "small_artifact.h"
#include "small_text.h"
#include "text/generate.h"

namespace {

/* A folder with a model and its text tables. The model has 83 ids, so control tokens are outside its vocabulary. */
struct Artifact {
  std::string folder;
  ek_model *model = nullptr;
  ek_text *text = nullptr;
  explicit Artifact(SmallText small = {}) {
    char name[] = "/tmp/edgekit-generate-test-XXXXXX";
    CHECK(mkdtemp(name) != nullptr);
    folder = name;
    const SmallArtifact artifact;
    small.joints.assign(kChatStrings, "?");
    small.fill();
    const std::vector<uint64_t> words = small.file();
    write("model.onnx", artifact.graph.data(), artifact.graph.size());
    write("model.onnx.data", artifact.data.data(), artifact.data.size());
    write(kTextFile, words.data(), words.size() * 8);
    CHECK(ek_model_open(name, &model) == EK_OK && ek_text_open(name, &text) == EK_OK);
  }
  ~Artifact() {
    ek_model_close(model);
    ek_text_close(text);
    for (const char *file : {"model.onnx", "model.onnx.data", kTextFile}) unlink((folder + "/" + file).c_str());
    rmdir(folder.c_str());
  }
  void write(const char *file, const void *bytes, size_t size) const {
    std::ofstream(folder + "/" + file, std::ios::binary).write(static_cast<const char *>(bytes), static_cast<std::streamsize>(size));
  }
  ek_session *session(int64_t context = kContext) const {
    ek_session *made = nullptr;
    CHECK(ek_session_create(model, context, 1, EK_KV_FLOAT16, &made) == EK_OK);
    return made;
  }
};

struct Seen {
  std::string thought, answer, text;
  std::vector<int32_t> ids, prompt;
  int32_t finish = -1;
  int64_t reused = 0, accepted = 0, thought_tokens = 0, prompts = 0, events = 0, cancel_at = -1;
  ek_session *cancels = nullptr; /* cancelled by ek_session_cancel instead of by the returned value */
};

[[maybe_unused]] int see(const ek_event *event, void *context) {
  auto &seen = *static_cast<Seen *>(context);
  if (event->kind == EK_EVENT_THOUGHT) seen.thought.append(event->text, static_cast<size_t>(event->bytes));
  if (event->kind == EK_EVENT_ANSWER) seen.answer.append(event->text, static_cast<size_t>(event->bytes));
  if (event->kind == EK_EVENT_PROMPT) {
    ++seen.prompts;
    CHECK(event->prompt_done > 0 && event->prompt_done < event->prompt_total);
  }
  if (event->kind == EK_EVENT_DONE) {
    const ek_completion &done = *event->completion;
    seen.text.assign(done.text, static_cast<size_t>(done.text_bytes));
    seen.ids.assign(done.ids, done.ids + done.tokens);
    seen.prompt.assign(done.prompt_ids, done.prompt_ids + done.prompt_tokens);
    seen.finish = done.finish;
    seen.reused = done.reused_tokens;
    seen.accepted = done.accepted_tokens;
    seen.thought_tokens = done.thought_tokens;
    CHECK(done.size == sizeof done && done.ttft_s >= 0);
  }
  if (seen.events++ != seen.cancel_at) return 0;
  if (!seen.cancels) return 1;
  ek_session_cancel(seen.cancels);
  return 0;
}

[[maybe_unused]] ek_request ids_request(const std::vector<int32_t> &ids, int64_t max_tokens) {
  ek_request request{};
  request.size = sizeof request;
  request.prompt_ids = ids.data();
  request.prompt_id_count = static_cast<int64_t>(ids.size());
  request.max_tokens = max_tokens;
  return request;
}

}  // namespace

#endif  // EDGEKIT_TESTS_TEXT_FOLDER_H
