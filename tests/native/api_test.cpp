/* Tests the C API: NULL arguments, statuses with their messages, and a model from a folder. The arithmetic has its own tests. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "edgekit_tools.h"
#include "small_folder.h"
#include "src/abi.h"
#include "text/text_handle.h"
#include "text/unicode.h"

namespace {

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
  CHECK(ek_session_threads(nullptr, nullptr) == 0 && ek_session_accepted(nullptr) == 0);
  ek_session_cancel(nullptr);
  CHECK(refuses(ek_session_next(nullptr, 1, &x), EK_BAD_ARGUMENT, "ek_session_next"));
  CHECK(refuses(ek_session_evaluate(nullptr, &token, 1, 0, &x), EK_BAD_ARGUMENT, "ek_session_evaluate"));
  CHECK(refuses(ek_session_step(nullptr, nullptr, &token, 1, &x), EK_BAD_ARGUMENT, "ek_session_step"));
  CHECK(refuses(ek_session_step_pieces(nullptr, nullptr, nullptr, &token, 1, &x), EK_BAD_ARGUMENT, "ek_session_step"));
  CHECK(refuses(ek_session_rewind(nullptr, 0), EK_BAD_ARGUMENT, "ek_session_rewind"));
  CHECK(refuses(ek_session_tokens(nullptr, &token, 0), EK_BAD_ARGUMENT, "ek_session_tokens"));
  CHECK(refuses(ek_session_copy(nullptr, nullptr), EK_BAD_ARGUMENT, "ek_session_copy"));
  CHECK(refuses(ek_session_get_block(nullptr, 0, nullptr), EK_BAD_ARGUMENT, "ek_session_get_block"));
  CHECK(refuses(ek_session_append_block(nullptr, &token, nullptr), EK_BAD_ARGUMENT, "ek_session_append_block"));
  CHECK(refuses(ek_session_save(nullptr, ""), EK_BAD_ARGUMENT, "ek_session_save"));
  CHECK(refuses(ek_session_load(nullptr, ""), EK_BAD_ARGUMENT, "ek_session_load"));
  CHECK(refuses(ek_sample(nullptr, 1, nullptr, nullptr, nullptr, nullptr), EK_BAD_ARGUMENT, "ek_sample"));
  CHECK(refuses(ek_session_sample(nullptr, &x, 1, nullptr, nullptr, nullptr, nullptr), EK_BAD_ARGUMENT, "ek_session_sample"));
  CHECK(refuses(ek_multiply(nullptr, nullptr, &x, 1, 0, &x), EK_BAD_ARGUMENT, "ek_multiply"));
  CHECK(refuses(ek_attend(nullptr, 1, 1, 1, 16, &x, &x, 1, &x), EK_BAD_ARGUMENT, "ek_attend"));
  CHECK(refuses(ek_measure_bandwidth(1, 0, nullptr), EK_BAD_ARGUMENT, "ek_measure_bandwidth"));
  CHECK(refuses(ek_measure_kernel(nullptr, 1, nullptr), EK_BAD_ARGUMENT, "ek_measure_kernel"));
  CHECK(refuses(ek_quantize_rows(nullptr, 0, 1, 1, 4, 32, 1, 0, nullptr, nullptr, nullptr, nullptr), EK_BAD_ARGUMENT, "ek_quantize_rows"));
}

/* Messages are UTF-8 where they are cut, and whatever they quote. */
void messages() {
  const auto is_utf8 = [] { return ek::valid_prefix(ek_last_error()) == std::string(ek_last_error()).size(); };
  ek_model *model = nullptr;
  for (const std::string character : {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x99\x82"})
    for (size_t size = 460; size < 520; ++size) {
      std::string path = "/" + std::string(size % character.size(), 'a');
      while (path.size() < size) path += character;
      CHECK(ek_model_open(path.c_str(), &model) == EK_BAD_FILE && is_utf8());
      CHECK(std::string(ek_last_error()).find("\xEF\xBF\xBD") == std::string::npos && std::string(ek_last_error()).size() > 440);
    }
  CHECK(refuses(ek_model_open("/no\xFFwhere", &model), EK_BAD_FILE, "/no\xEF\xBF\xBDwhere") && is_utf8());
  CHECK(ek_model_open(std::string(600, '\xBF').c_str(), &model) == EK_BAD_FILE && is_utf8());
  ek::set_last_error(std::string(5000, '\xFF').c_str()); /* each becomes three bytes */
  CHECK(is_utf8() && std::string(ek_last_error()).size() == 1023);
}

void kernels() {
  int runs = -1, count = 0;
  std::string last;
  for (const char *name; (name = ek_kernel_at(count, &runs)); ++count) last = name;
  CHECK(count >= 1 && last == "scalar" && runs == 1);
  CHECK(!ek_kernel_at(-1, nullptr) && !ek_kernel_at(count, nullptr) && ek_kernel_at(0, nullptr));
}

void sessions() {
  const Folder files;
  const char *folder = files.name;
  const std::string &state = files.state;
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
  CHECK(ek_session_tokens(copy, nullptr, 0) == EK_OK);
  CHECK(refuses(ek_session_tokens(copy, found, 5), EK_BAD_ARGUMENT, "cannot copy 5 token ids; the session has 4"));
  CHECK(ek_session_rewind(session, 1) == EK_OK && ek_session_copy(session, copy) == EK_OK && ek_session_position(session) == 4);
  const int32_t bad = kVocab;
  CHECK(refuses(ek_session_evaluate(session, &bad, 1, 0, logits.data()), EK_TOKEN, "token id 83"));
  CHECK(ek_session_position(session) == 4);
  ek_session_free(session);
  ek_session_free(copy);
}

/* Blocks of one session continue another one as if it had evaluated them. */
void blocks() {
  for (const ek_kv_type type : {EK_KV_FLOAT16, EK_KV_INT8}) {
    const Folder files;
    ek_model *model = nullptr;
    ek_session *one = nullptr, *other = nullptr, *small = nullptr;
    CHECK(ek_model_open(files.name, &model) == EK_OK);
    CHECK(ek_session_create(model, 200, 1, type, &one) == EK_OK && ek_session_create(model, 150, 1, type, &other) == EK_OK);
    CHECK(ek_session_create(model, 100, 1, type, &small) == EK_OK);
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 130; ++i) ids.push_back(i * 7 % kVocab);
    std::vector<float> logits(kVocab), expected(kVocab);
    CHECK(ek_session_evaluate(one, ids.data(), 128, 0, logits.data()) == EK_OK);
    CHECK(ek_session_evaluate(one, ids.data() + 128, 1, 0, logits.data()) == EK_OK); /* a token alone rounds otherwise than in a prompt */
    const auto bytes = static_cast<size_t>(ek_session_block_bytes(one));
    CHECK(bytes > 0 && bytes == static_cast<size_t>(ek_session_block_bytes(other)) && ek_session_block_bytes(nullptr) == 0);
    std::vector<uint8_t> first(bytes), second(bytes);
    CHECK(ek_session_get_block(one, 0, first.data()) == EK_OK && ek_session_get_block(one, 1, second.data()) == EK_OK);
    CHECK(refuses(ek_session_get_block(one, 2, first.data()), EK_BAD_ARGUMENT, "block 2 of the session: it has 2 whole blocks of 64 tokens"));
    CHECK(refuses(ek_session_get_block(one, -1, first.data()), EK_BAD_ARGUMENT, "block -1"));
    CHECK(ek_session_append_block(other, ids.data(), first.data()) == EK_OK && ek_session_append_block(other, ids.data() + 64, second.data()) == EK_OK);
    CHECK(ek_session_position(other) == 128);
    CHECK(refuses(ek_session_append_block(other, ids.data(), first.data()), EK_CONTEXT, "do not fit into the context of 150"));
    CHECK(ek_session_evaluate(other, ids.data() + 128, 1, 0, logits.data()) == EK_OK);
    CHECK(ek_session_evaluate(one, ids.data() + 129, 1, 0, expected.data()) == EK_OK);
    CHECK(ek_session_evaluate(other, ids.data() + 129, 1, 0, logits.data()) == EK_OK && logits == expected);
    CHECK(refuses(ek_session_append_block(other, ids.data(), first.data()), EK_BAD_ARGUMENT, "behind 130 tokens; allowed: multiples of 64"));
    ids[5] = kVocab;
    CHECK(refuses(ek_session_append_block(small, ids.data(), first.data()), EK_TOKEN, "token id 83") && ek_session_position(small) == 0);
    for (ek_session *each : {one, other, small}) ek_session_free(each);
    ek_model_close(model);
  }
}

/* Every function that uses a session is an error while another call does, and changes nothing. */
void busy_sessions() {
  const Opened opened(20, 1);
  ek_session *busy = opened.session, *other = nullptr;
  CHECK(ek_session_create(opened.model, 20, 1, EK_KV_FLOAT16, &other) == EK_OK);
  std::vector<float> logits(2 * kVocab);
  int32_t ids[] = {3, 1};
  CHECK(ek_session_evaluate(busy, ids, 2, 0, logits.data()) == EK_OK && ek_session_evaluate(other, ids, 1, 0, logits.data()) == EK_OK);
  {
    const InUse in_use(*busy);
    ek_session *const both[] = {other, busy};
    const char *words = "another call uses this session";
    CHECK(refuses(ek_session_evaluate(busy, ids, 1, 0, logits.data()), EK_BUSY, words));
    CHECK(refuses(ek_session_step(busy, &other, ids, 1, logits.data()), EK_BUSY, words));
    CHECK(refuses(ek_session_step(other, both, ids, 2, logits.data()), EK_BUSY, words));
    CHECK(refuses(ek_session_next(busy, 1, logits.data()), EK_BUSY, words));
    CHECK(refuses(ek_session_rewind(busy, 0), EK_BUSY, words));
    const ek_sampling greedy = {0.0f, 1.0f, 0.0f, 1.0f, 0};
    const uint8_t *seen = nullptr;
    uint64_t random = 1;
    CHECK(refuses(ek_session_sample(busy, logits.data(), 1, &greedy, &seen, &random, ids), EK_BUSY, words));
    CHECK(refuses(ek_session_sample(other, logits.data(), 17, &greedy, &seen, &random, ids), EK_BAD_ARGUMENT, "from 17 rows; allowed: 1 to 16"));
    CHECK(refuses(ek_session_tokens(busy, ids, 1), EK_BUSY, words));
    CHECK(refuses(ek_session_copy(busy, other), EK_BUSY, words));
    CHECK(refuses(ek_session_copy(other, busy), EK_BUSY, words));
    CHECK(refuses(ek_session_save(busy, opened.files.state.c_str()), EK_BUSY, words));
    CHECK(refuses(ek_session_load(busy, opened.files.state.c_str()), EK_BUSY, words));
    CHECK(ek_session_position(busy) == 2 && ek_session_position(other) == 1);
  }
  ek_session *const both[] = {other, busy};
  CHECK(ek_session_step(other, both, ids, 2, logits.data()) == EK_OK); /* nothing that was refused is still in use */
  CHECK(ek_session_copy(busy, busy) == EK_OK && ek_session_position(busy) == 3);
  ek_session_free(other);
}

/* Threads that use one session without agreement get EK_OK or EK_BUSY, and the session holds what succeeded. */
void many_threads_on_one_session() {
  const Opened opened(kContext, 2);
  std::atomic<int> done{0}, refused{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::vector<float> logits(kVocab);
      const int32_t ids[] = {t};
      for (int i = 0; i < 100; ++i) {
        const int status = ek_session_evaluate(opened.session, ids, 1, 0, logits.data());
        CHECK(status == EK_OK || refuses(status, EK_BUSY, "another call uses this session"));
        ++(status == EK_OK ? done : refused);
        CHECK(ek_session_position(opened.session) <= 400);
      }
    });
  for (std::thread &thread : threads) thread.join();
  CHECK(done > 0 && done + refused == 400 && ek_session_position(opened.session) == done);
}

/* A cancelled call leaves the session as it was, and later calls are not cancelled. */
void cancelled_calls() {
  ::alarm(120); /* a call that is never cancelled is repeated without end */
  const Opened opened(kContext, 2);
  std::vector<int32_t> ids(kContext - 10, 5);
  std::vector<float> logits(kVocab), expected(kVocab);
  const auto count = static_cast<int64_t>(ids.size());
  ek_session_cancel(opened.session); /* nobody uses it */
  CHECK(ek_session_evaluate(opened.session, ids.data(), 3, 0, logits.data()) == EK_OK);
  CHECK(ek_session_evaluate(opened.session, ids.data(), count, 0, expected.data()) == EK_OK && ek_session_rewind(opened.session, 3) == EK_OK);
  std::atomic<bool> ended{false};
  std::thread canceller([&] {
    while (!ended) {
      ek_session_cancel(opened.session);
      std::this_thread::yield();
    }
  });
  for (int status = EK_OK; status != EK_CANCELLED;) {
    status = ek_session_evaluate(opened.session, ids.data(), count, 0, logits.data());
    CHECK(status == EK_OK || refuses(status, EK_CANCELLED, "the call was cancelled"));
    CHECK(ek_session_position(opened.session) == (status == EK_OK ? 3 + count : 3));
    while (status == EK_OK && ek_session_rewind(opened.session, 3) != EK_OK) {}
  }
  for (int status = EK_OK; status != EK_CANCELLED;) {
    status = ek_session_step(opened.session, &opened.session, ids.data(), 1, logits.data());
    CHECK(ek_session_position(opened.session) == (status == EK_OK ? 4 : 3) && ek_session_rewind(opened.session, 3) == EK_OK);
  }
  ended = true;
  canceller.join();
  CHECK(ek_session_evaluate(opened.session, ids.data(), count, 0, logits.data()) == EK_OK && logits == expected);
  ::alarm(0);
}

/* Handles of the same files share a mapping, until the files are written to. */
void shared_mapping() {
  const Opened opened(20, 1);
  ek_model *same = nullptr, *later = nullptr;
  CHECK(ek_model_open((std::string(opened.files.name) + "/.").c_str(), &same) == EK_OK && pinned(same) == pinned(opened.model));
  const timespec times[] = {{0, UTIME_OMIT}, {1, 0}};
  CHECK(utimensat(AT_FDCWD, opened.files.data.c_str(), times, 0) == 0);
  CHECK(ek_model_open(opened.files.name, &later) == EK_OK && pinned(later) != pinned(opened.model));
  ek_model_close(same);
  ek_model_close(later);
}

/* A file that was cut while it is mapped is an error of the next call, not a signal. */
void cut_file() {
  const Opened opened(20, 1);
  const int32_t ids[] = {3, 1};
  std::vector<float> logits(kVocab);
  CHECK(ek_session_evaluate(opened.session, ids, 1, 0, logits.data()) == EK_OK);
  CHECK(truncate(opened.files.data.c_str(), 100) == 0);
  CHECK(refuses(ek_session_evaluate(opened.session, ids, 2, 0, logits.data()), EK_BAD_FILE, "to 100 bytes while it was open"));
  CHECK(refuses(ek_session_step(opened.session, &opened.session, ids, 1, logits.data()), EK_BAD_FILE, opened.files.data.c_str()));
  CHECK(ek_session_position(opened.session) == 1);
  ek_model *again = nullptr;
  CHECK(ek_model_open(opened.files.name, &again) == EK_BAD_FILE && !again);
}

/* The file is cut at any moment of a call, also in the middle of a task of another thread, and written again with what it had: the
 * call fails, and so do all others with this mapping. A model that is opened then has a new one. */
void cut_while_reading() {
  ::alarm(300);
  int lost = 0;
#ifdef EDGEKIT_EMULATED
  const int rounds = 10, evaluations = 2; /* each takes long enough to be cut in the middle */
#else
  const int rounds = 40, evaluations = 20;
#endif
  for (int round = 0; round < rounds; ++round) {
    const Opened opened(kContext, 2);
    std::vector<int32_t> ids(kContext - 10, 5);
    std::vector<float> logits(kVocab), expected(kVocab);
    const auto count = static_cast<int64_t>(ids.size());
    std::atomic<bool> begun{false};
    int status = EK_OK;
    std::string message;
    std::thread reader([&] {
      begun = true;
      for (int i = 0; i < evaluations && status == EK_OK; ++i)
        if ((status = ek_session_evaluate(opened.session, ids.data(), count, 0, logits.data())) == EK_OK)
          CHECK(ek_session_rewind(opened.session, 0) == EK_OK);
      message = ek_last_error(); /* of this thread */
    });
    while (!begun) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(round * 100));
    const std::vector<uint8_t> &bytes = opened.files.artifact.data;
    CHECK(truncate(opened.files.data.c_str(), 0) == 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::ofstream(opened.files.data, std::ios::binary).write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    reader.join();
    CHECK(status == EK_OK || (status == EK_BAD_FILE && (message.find("while it was open") != message.npos || message.find("could not be read") != message.npos)));
    if (status == EK_OK) continue;
    CHECK(ek_session_position(opened.session) == 0);
    if (!pinned(opened.model)->is_lost()) continue;
    ++lost;
    CHECK(refuses(ek_session_evaluate(opened.session, ids.data(), 1, 0, logits.data()), EK_BAD_FILE, "could not be read"));
    ek_model *again = nullptr;
    ek_session *session = nullptr;
    CHECK(ek_model_open(opened.files.name, &again) == EK_OK && pinned(again) != pinned(opened.model));
    CHECK(ek_session_create(again, 20, 2, EK_KV_FLOAT16, &session) == EK_OK);
    CHECK(ek_session_evaluate(session, ids.data(), 2, 0, logits.data()) == EK_OK);
    ek_session_free(session);
    ek_model_close(again);
  }
  CHECK(lost > 0);
  ::alarm(0);
}

/* A freed handle is an error, also if it is freed twice. */
void freed_handles() {
  const Folder files;
  ek_model *model = nullptr;
  ek_session *session = nullptr, *other = nullptr;
  CHECK(ek_model_open(files.name, &model) == EK_OK && ek_session_create(model, 20, 1, EK_KV_FLOAT16, &session) == EK_OK);
  CHECK(ek_session_create(model, 20, 1, EK_KV_FLOAT16, &other) == EK_OK);
  for (int i = 0; i < 2; ++i) {
    ek_session_free(session);
    ek_model_close(model);
  }
  std::vector<float> logits(kVocab);
  int32_t ids[] = {3};
  int wanted = 7;
  const char *words = "this session was freed", *path = files.state.c_str();
  CHECK(refuses(ek_session_evaluate(session, ids, 1, 0, logits.data()), EK_BAD_ARGUMENT, words));
  CHECK(refuses(ek_session_next(session, 1, logits.data()), EK_BAD_ARGUMENT, words));
  CHECK(refuses(ek_session_step(session, &other, ids, 1, logits.data()), EK_BAD_ARGUMENT, words));
  CHECK(refuses(ek_session_step(other, &session, ids, 1, logits.data()), EK_BAD_ARGUMENT, words));
  CHECK(refuses(ek_session_rewind(session, 0), EK_BAD_ARGUMENT, words) && refuses(ek_session_tokens(session, ids, 0), EK_BAD_ARGUMENT, words));
  CHECK(refuses(ek_session_copy(session, other), EK_BAD_ARGUMENT, words) && refuses(ek_session_copy(other, session), EK_BAD_ARGUMENT, words));
  CHECK(refuses(ek_session_copy(session, session), EK_BAD_ARGUMENT, words));
  CHECK(refuses(ek_session_save(session, path), EK_BAD_ARGUMENT, words) && refuses(ek_session_load(session, path), EK_BAD_ARGUMENT, words));
  CHECK(ek_session_position(session) == 0 && ek_session_cache_bytes(session) == 0 && ek_session_accepted(session) == 0);
  CHECK(ek_session_threads(session, &wanted) == 0 && wanted == 0 && ek_session_threads(other, nullptr) == 1);
  ek_session_cancel(session);
  ek_session *again = nullptr;
  CHECK(refuses(ek_session_create(model, 20, 1, EK_KV_FLOAT16, &again), EK_BAD_ARGUMENT, "this model was freed"));
  CHECK(ek_model_vocab_size(model) == 0 && ek_model_context_length(model) == 0 && ek_model_token_bytes(model) == 0);
  CHECK(ek_model_prompt_multiply_adds(model, 5) == 0);
  CHECK(ek_session_evaluate(other, ids, 1, 0, logits.data()) == EK_OK); /* it keeps the model */
  ek_session_free(other);
}

/* A session that is freed while a call uses it stays until the end of the call, which is cancelled. */
void freed_in_use() {
  ::alarm(120);
  for (int i = 0; i < 10; ++i) {
    Opened opened(kContext, 2);
    std::vector<int32_t> ids(kContext - 10, 5);
    std::vector<float> logits(kVocab);
    std::atomic<bool> begun{false};
    std::thread user([&] {
      int status = EK_OK;
      while (status == EK_OK) {
        status = ek_session_evaluate(opened.session, ids.data(), static_cast<int64_t>(ids.size()), 0, logits.data());
        if (status == EK_OK) status = ek_session_rewind(opened.session, 0);
        begun = true;
      }
      CHECK(status == EK_CANCELLED || refuses(status, EK_BAD_ARGUMENT, "was freed"));
    });
    while (!begun) std::this_thread::yield();
    ek_session_free(opened.session);
    ek_session_free(opened.session);
    user.join();
  }
  ::alarm(0);
}

}  // namespace

int main() {
  null_arguments();
  messages();
  kernels();
  sessions();
  blocks();
  busy_sessions();
  many_threads_on_one_session();
  cancelled_calls();
  shared_mapping();
  cut_file();
  cut_while_reading();
  freed_handles();
  freed_in_use();
  return finish("api_test");
}
