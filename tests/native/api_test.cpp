/* Tests the C API: NULL arguments, statuses with their messages, and a model from a folder. The arithmetic has its own tests. */
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "edgekit_tools.h"
#include "small_artifact.h"

namespace {

bool refuses(int status, int expected, const char *words) {
  if (status == expected && std::string(ek_last_error()).find(words) != std::string::npos) return true;
  std::printf("  found: %d, %s\n", status, ek_last_error());
  return false;
}

void null_arguments() {
  float x = 0;
  int32_t token = 0;
  CHECK(ek_abi_version() == EK_ABI_VERSION && ek_kernel_name() && ek_default_threads() >= 1);
  ek_model_close(nullptr);
  ek_session_free(nullptr);
  CHECK(ek_model_vocab_size(nullptr) == 0 && ek_model_context_length(nullptr) == 0 && ek_session_position(nullptr) == 0);
  CHECK(ek_session_cache_bytes(nullptr) == 0 && ek_model_token_bytes(nullptr) == 0 && ek_model_prompt_multiply_adds(nullptr, 1) == 0);
  CHECK(refuses(ek_model_open(nullptr, nullptr), EK_BAD_ARGUMENT, "ek_model_open"));
  CHECK(refuses(ek_session_create(nullptr, 1, 1, 0, nullptr), EK_BAD_ARGUMENT, "ek_session_create"));
  CHECK(refuses(ek_session_evaluate(nullptr, &token, 1, 0, &x), EK_BAD_ARGUMENT, "ek_session_evaluate"));
  CHECK(refuses(ek_session_step(nullptr, nullptr, &token, 1, &x), EK_BAD_ARGUMENT, "ek_session_step"));
  CHECK(refuses(ek_session_rewind(nullptr, 0), EK_BAD_ARGUMENT, "ek_session_rewind"));
  CHECK(refuses(ek_session_tokens(nullptr, &token, 0), EK_BAD_ARGUMENT, "ek_session_tokens"));
  CHECK(refuses(ek_session_copy(nullptr, nullptr), EK_BAD_ARGUMENT, "ek_session_copy"));
  CHECK(refuses(ek_session_save(nullptr, ""), EK_BAD_ARGUMENT, "ek_session_save"));
  CHECK(refuses(ek_session_load(nullptr, ""), EK_BAD_ARGUMENT, "ek_session_load"));
  CHECK(refuses(ek_sample(nullptr, 1, nullptr, nullptr, nullptr, nullptr), EK_BAD_ARGUMENT, "ek_sample"));
  CHECK(refuses(ek_multiply(nullptr, nullptr, &x, 1, 0, &x), EK_BAD_ARGUMENT, "ek_multiply"));
  CHECK(refuses(ek_attend(nullptr, 1, 1, 1, 16, &x, &x, 1, &x), EK_BAD_ARGUMENT, "ek_attend"));
  CHECK(refuses(ek_measure_bandwidth(1, 0, nullptr), EK_BAD_ARGUMENT, "ek_measure_bandwidth"));
  CHECK(refuses(ek_measure_kernel(nullptr, 1, nullptr), EK_BAD_ARGUMENT, "ek_measure_kernel"));
  CHECK(refuses(ek_quantize_rows(nullptr, 0, 1, 1, 4, 32, 1, 0, nullptr, nullptr, nullptr, nullptr), EK_BAD_ARGUMENT, "ek_quantize_rows"));
}

void kernels() {
  int runs = -1, count = 0;
  std::string last;
  for (const char *name; (name = ek_kernel_at(count, &runs)); ++count) last = name;
  CHECK(count >= 1 && last == "scalar" && runs == 1);
  CHECK(!ek_kernel_at(-1, nullptr) && !ek_kernel_at(count, nullptr) && ek_kernel_at(0, nullptr));
}

void sessions() {
  const SmallArtifact artifact;
  char folder[] = "/tmp/edgekit-api-test-XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  const std::string graph = std::string(folder) + "/model.onnx", data = graph + ".data", state = std::string(folder) + "/state";
  std::ofstream(graph, std::ios::binary) << artifact.graph;
  std::ofstream(data, std::ios::binary).write(reinterpret_cast<const char *>(artifact.data.data()), static_cast<std::streamsize>(artifact.data.size()));

  ek_model *model = nullptr;
  ek_session *session = nullptr, *copy = nullptr;
  CHECK(refuses(ek_model_open("/no/such/folder", &model), EK_BAD_FILE, "cannot open /no/such/folder/model.onnx"));
  CHECK(ek_model_open(folder, &model) == EK_OK && ek_model_vocab_size(model) == kVocab && ek_model_context_length(model) == kContext);
  CHECK(refuses(ek_session_create(model, 10, 2000, EK_KV_INT8, &session), EK_BAD_ARGUMENT, "2000 threads were requested"));
  CHECK(refuses(ek_session_create(model, 10, 1, 7, &session), EK_BAD_ARGUMENT, "key-value type 7"));
  CHECK(refuses(ek_session_create(model, kContext + 1, 1, EK_KV_INT8, &session), EK_CONTEXT, "this model allows 1 to 800"));
  CHECK(ek_session_create(model, 10, 1, EK_KV_INT8, &session) == EK_OK && ek_session_create(model, 9, 0, EK_KV_INT8, &copy) == EK_OK);
  ek_model_close(model); /* the sessions keep the model */

  std::vector<float> logits(kVocab), expected(kVocab);
  const int32_t ids[] = {3, 1, 4, 1};
  CHECK(ek_session_evaluate(session, ids, 3, 0, logits.data()) == EK_OK && ek_session_position(session) == 3);
  CHECK(ek_session_save(session, state.c_str()) == EK_OK && ek_session_load(copy, state.c_str()) == EK_OK);
  CHECK(ek_session_evaluate(session, ids + 3, 1, 0, expected.data()) == EK_OK);
  CHECK(ek_session_step(copy, &copy, ids + 3, 1, logits.data()) == EK_OK && logits == expected);
  CHECK(refuses(ek_session_step(copy, &copy, ids, 17, logits.data()), EK_BAD_ARGUMENT, "a step of 17 sessions"));
  int32_t found[4] = {};
  CHECK(ek_session_tokens(copy, found, 4) == EK_OK && std::equal(found, found + 4, ids));
  CHECK(refuses(ek_session_tokens(copy, found, 5), EK_BAD_ARGUMENT, "cannot copy 5 token ids; the session has 4"));
  CHECK(ek_session_rewind(session, 1) == EK_OK && ek_session_copy(session, copy) == EK_OK && ek_session_position(session) == 4);
  const int32_t bad = kVocab;
  CHECK(refuses(ek_session_evaluate(session, &bad, 1, 0, logits.data()), EK_TOKEN, "token id 83"));
  CHECK(ek_session_position(session) == 4);
  ek_session_free(session);
  ek_session_free(copy);
  for (const std::string &file : {graph, data, state}) unlink(file.c_str());
  rmdir(folder);
}

}  // namespace

int main() {
  null_arguments();
  kernels();
  sessions();
  return finish("api_test");
}
