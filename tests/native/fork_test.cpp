/* What a child process finds of its parent's sessions after a fork. */
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "small_folder.h"
#include "src/abi.h"
#include "text/text_handle.h"

namespace {

/* A forked child cannot use the sessions of its parent; it can free them and create others. The parent goes on. */
void forked_child() {
  const Opened opened(20, 2);
  std::vector<float> logits(kVocab), expected(kVocab);
  int32_t ids[] = {3, 1};
  CHECK(ek_session_evaluate(opened.session, ids, 2, 0, expected.data()) == EK_OK);
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    const char *words = "is a fork of the one that created the session";
    CHECK(refuses(ek_session_evaluate(opened.session, ids, 1, 0, logits.data()), EK_FORKED, words));
    CHECK(refuses(ek_session_save(opened.session, opened.files.state.c_str()), EK_FORKED, words));
    CHECK(ek_session_position(opened.session) == 2);
    ek_session *own = nullptr;
#if defined(__SANITIZE_THREAD__) /* it does not support new threads here */
    CHECK(ek_session_create(opened.model, 20, 1, EK_KV_FLOAT16, &own) == EK_OK);
    CHECK(ek_session_evaluate(own, ids, 2, 0, logits.data()) == EK_OK);
#else
    CHECK(ek_session_create(opened.model, 20, 2, EK_KV_FLOAT16, &own) == EK_OK);
    CHECK(ek_session_evaluate(own, ids, 2, 0, logits.data()) == EK_OK && logits == expected);
#endif
    CHECK(refuses(ek_session_copy(own, opened.session), EK_FORKED, words));
    ek_session_free(opened.session);
    ek_session_free(own);
    std::fflush(stdout);
    ::_exit(failures ? 1 : 0);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(ek_session_evaluate(opened.session, ids, 1, 0, logits.data()) == EK_OK);
}

/* A child that is forked while a call of its parent uses a session is told so: that call will never end in the child. */
void forked_during_a_call() {
  const Opened opened(20, 1);
  std::vector<float> logits(kVocab);
  const int32_t id = 3;
  int32_t action = 0;
  ek_watch *watch = nullptr;
  CHECK(ek_watch_create(5, 0, 1, &watch) == EK_OK);
  pid_t child = -1;
  {
    const ek::InUse in_use(*opened.session);
    const ek::Using<ek_watch> watching(*watch);
    CHECK(refuses(ek_session_evaluate(opened.session, &id, 1, 0, logits.data()), EK_BUSY, "another call uses this session"));
    child = ::fork();
    if (child == 0) {
      ::alarm(60);
      for (int i = 0; i < 2; ++i) {
        CHECK(refuses(ek_session_evaluate(opened.session, &id, 1, 0, logits.data()), EK_FORKED, "is a fork of the one that created the session"));
        CHECK(refuses(ek_watch_push(watch, 1, 1, &action), EK_FORKED, "a call of its parent was using this watch"));
        ek_session_cancel(opened.session);
      }
      std::fflush(stdout);
      ::_exit(failures ? 1 : 0);
    }
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(ek_session_evaluate(opened.session, &id, 1, 0, logits.data()) == EK_OK && ek_watch_push(watch, 1, 1, &action) == EK_OK);
  ek_watch_free(watch);
}

/* Children that are forked while other threads open models and evaluate can use the library. */
[[maybe_unused]] void forks_beside_threads() {
  const Opened opened(kContext, 2);
  std::atomic<bool> ended{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&, t] {
      std::vector<float> logits(kVocab);
      while (!ended) {
        ek_model *model = nullptr;
        ek_session *session = nullptr;
        const int32_t id = 5;
        CHECK(ek_model_open(opened.files.name, &model) == EK_OK && ek_session_create(model, 8, 1 + t, EK_KV_INT8, &session) == EK_OK);
        CHECK(ek_session_evaluate(session, &id, 1, 0, logits.data()) == EK_OK);
        ek_session_free(session);
        ek_model_close(model);
      }
    });
  for (int i = 0; i < 30; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(60);
      std::vector<float> logits(kVocab);
      const int32_t id = 5;
      ek_model *model = nullptr;
      ek_session *session = nullptr;
      const bool good = ek_model_open(opened.files.name, &model) == EK_OK && ek_session_create(model, 8, 2, EK_KV_INT8, &session) == EK_OK &&
                        ek_session_evaluate(session, &id, 1, 0, logits.data()) == EK_OK;
      ek_session_free(opened.session);
      ::_exit(good ? 0 : 1);
    }
    int status = -1;
    CHECK(::waitpid(child, &status, 0) == child && status == 0);
    if (status) std::printf("  status %x\n", static_cast<unsigned>(status));
  }
  ended = true;
  for (std::thread &thread : threads) thread.join();
}

}  // namespace

int main() {
  forked_child();
  forked_during_a_call();
  /* Neither the sanitizers nor qemu, which runs programs for other processors, support forks beside threads. */
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) && !defined(EDGEKIT_EMULATED)
  forks_beside_threads();
#endif
  return finish("fork_test");
}
