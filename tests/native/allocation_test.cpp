/* Lets allocations fail, one after another, while an application does everything that it can do: each function returns a status that
 * says so, nothing leaks (under the address sanitizer), and a session that exists can be used afterwards.
 *
 *   allocation_test        some hundred of the allocations
 *   allocation_test all    each of them */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>

#include "edgekit_tools.h"
#include "small_artifact.h"
#include "small_text.h"
#include "src/abi.h"

namespace {

std::atomic<int64_t> left{INT64_MAX}; /* allocations that succeed before the one that fails */
std::atomic<bool> and_all_others{false};

bool fails() {
  const int64_t before = left.fetch_sub(1);
  return before == 0 || (before < 0 && and_all_others);
}

void *allocated(size_t size) {
  if (!fails())
    if (void *memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void *operator new(size_t size) { return allocated(size); }
void *operator new[](size_t size) { return allocated(size); }
void *operator new(size_t size, std::align_val_t alignment) {
  void *memory = nullptr;
  if (fails() || ::posix_memalign(&memory, static_cast<size_t>(alignment), size) != 0) throw std::bad_alloc();
  return memory;
}
void *operator new[](size_t size, std::align_val_t alignment) { return operator new(size, alignment); }
void *operator new(size_t size, const std::nothrow_t &) noexcept { return fails() ? nullptr : std::malloc(size ? size : 1); }
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete[](void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }
void operator delete[](void *memory, size_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void *memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void *memory, size_t, std::align_val_t) noexcept { std::free(memory); }

#if defined(__linux__)
extern "C" {
void *__real_calloc(size_t count, size_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
FILE *__real_fdopen(int file, const char *mode);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

void *__wrap_calloc(size_t count, size_t size) { return fails() ? nullptr : __real_calloc(count, size); }
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset) {
  if (!fails()) return __real_mmap(at, size, protection, flags, file, offset);
  errno = ENOMEM;
  return MAP_FAILED;
}
FILE *__wrap_fdopen(int file, const char *mode) {
  if (!fails()) return __real_fdopen(file, mode);
  errno = ENOMEM;
  return nullptr;
}
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
  return fails() ? EAGAIN : __real_pthread_create(thread, attributes, start, argument);
}
}
#endif

namespace {

std::string folder;

void write_artifact() {
  char name[] = "/tmp/edgekit-allocation-test-XXXXXX";
  CHECK(mkdtemp(name) != nullptr);
  folder = name;
  const SmallArtifact artifact;
  SmallText small;
  small.joints.assign(kChatStrings, "?");
  small.fill();
  const std::vector<uint64_t> words = small.file();
  const auto write = [&](const char *file, const void *bytes, size_t size) {
    std::ofstream(folder + "/" + file, std::ios::binary).write(static_cast<const char *>(bytes), static_cast<std::streamsize>(size));
  };
  write("model.onnx", artifact.graph.data(), artifact.graph.size());
  write("model.onnx.data", artifact.data.data(), artifact.data.size());
  write(kTextFile, words.data(), words.size() * 8);
}

/* All handles of an application. */
struct Handles {
  ek_model *model = nullptr;
  ek_session *session = nullptr, *other = nullptr;
  ek_text *text = nullptr;
  ek_stream *stream = nullptr;
  ek_watch *watch = nullptr;
  ~Handles() {
    ek_stream_free(stream);
    ek_watch_free(watch);
    ek_session_free(session);
    ek_session_free(other);
    ek_text_close(text);
    ek_model_close(model);
  }
};

const int32_t kIds[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 1, 4, 1, 5};
float logits[2 * kVocab], expected[kVocab];
int32_t out[64];
char bytes[64];

/* Everything in turn, until something fails; its status. */
int use_everything(Handles &all, const std::string &state) {
  const char *piece = nullptr;
  int64_t count = 0;
  int32_t action = 0;
  const ek_message messages[] = {{"user", "AB", 2, 0}, {"assistant", "</think>C", -1, 1}, {"user", "D", 1, 0}};
  ek_request request{};
  request.size = sizeof request;
  request.messages = messages;
  request.message_count = 3;
  request.max_tokens = 6;
  request.has_seed = 1;
  const char *stops[] = {"@@", "a stop text that is longer than a short string of the library"};
  request.stop_texts = stops;
  request.stop_text_count = 2;
  ek_request ids = request;
  ids.messages = nullptr;
  ids.prompt_ids = kIds;
  ids.prompt_id_count = 29;
  const auto next = [&] { /* with guesses */
    for (int i = 0, status; i < 8; ++i)
      if ((status = ek_session_next(all.session, kIds[24 + i % 5], logits)) != EK_OK) return status;
    return static_cast<int>(EK_OK);
  };
  const auto step = [&] {
    ek_session *const both[] = {all.session, all.other};
    return ek_session_step(all.session, both, kIds, 2, logits);
  };
  ek_text_info info{};
  info.size = sizeof info;
  int status = EK_OK;
  const auto good = [&](int found) { return (status = found) == EK_OK; };
  (void)(good(ek_model_open(folder.c_str(), &all.model)) && good(ek_session_create(all.model, 300, 2, EK_KV_FLOAT16, &all.session)) &&
         good(ek_session_evaluate(all.session, kIds, 29, 0, logits)) && good(next()) &&
         good(ek_session_create(all.model, 300, 2, EK_KV_FLOAT16, &all.other)) && good(ek_session_copy(all.other, all.session)) && good(step()) &&
         good(ek_session_tokens(all.session, out, 20)) && good(ek_session_save(all.session, state.c_str())) &&
         good(ek_session_load(all.other, state.c_str())) && good(ek_session_rewind(all.session, 5)) && good(ek_text_open(folder.c_str(), &all.text)) &&
         good(ek_text_describe(all.text, &info)) &&
         good(ek_text_encode(all.text, "hello one<a> e\xCC\x81 \xFF", -1, 0, out, 64, &count)) && good(ek_text_decode(all.text, out, count, bytes, 64, &count)) &&
         good(ek_text_prompt(all.text, messages, 3, out, 64, &count)) && good(ek_text_words(all.text, "a b", 3, bytes, 64, &count, nullptr, 0, &count)) &&
         good(ek_stream_create(all.text, &all.stream)) && good(ek_stream_push(all.stream, 'A', &piece, &count)) &&
         good(ek_stream_push(all.stream, 0xC3, &piece, &count)) && good(ek_stream_finish(all.stream, &piece, &count)) &&
         good(ek_generate(all.session, all.text, &ids, nullptr, nullptr)) && good(ek_generate(all.session, all.text, &request, nullptr, nullptr)) &&
         good(ek_prepare(all.session, all.text, messages, 2)) && good(ek_watch_create(3, EK_GUARD_ALL, 1, &all.watch)) &&
         good(ek_watch_push(all.watch, 5, 1, &action)) && good(ek_watch_adjust(all.watch, logits, kVocab)) &&
         good(ek_thought_closing(EK_WATCH_CLOSE_SPENT, "x", 1, bytes, 64, &count)));
  return status;
}

/* Whether a session has the logits that it should have. */
bool works(ek_session *session) {
  return ek_session_rewind(session, 0) == EK_OK && ek_session_evaluate(session, kIds, 9, 0, logits) == EK_OK &&
         std::equal(expected, expected + kVocab, logits);
}

void every_failure(int64_t most) {
  const std::string state = folder + "/state";
  int64_t total = 0;
  {
    Handles all;
    CHECK(use_everything(all, state) == EK_OK); /* chooses the kernels */
    CHECK(ek_session_rewind(all.session, 0) == EK_OK && ek_session_evaluate(all.session, kIds, 9, 0, expected) == EK_OK);
  }
  {
    Handles all;
    left = INT64_MAX;
    CHECK(use_everything(all, state) == EK_OK);
    total = INT64_MAX - left;
  }
  const int64_t stride = most ? std::max<int64_t>(1, total / most) : 1;
  int64_t tried = 0, refused = 0;
  for (const bool others : {false, true}) {
    and_all_others = others;
    for (int64_t n = 0; n < total; n += stride) {
      Handles all;
      left = n;
      const int status = use_everything(all, state);
      left = INT64_MAX;
      ++tried;
      refused += status != EK_OK;
      /* Where a thread is not started, or a choice of kernels is not kept, a call succeeds. */
      if (status != EK_OK && status != EK_NO_MEMORY) std::printf("allocation %ld: status %d, %s\n", static_cast<long>(n), status, ek_last_error());
      CHECK(status == EK_OK || status == EK_NO_MEMORY);
      for (ek_session *session : {all.session, all.other}) CHECK(!session || works(session));
      for (const auto &entry : std::filesystem::directory_iterator(folder)) CHECK(entry.path().string().find(".saving-") == std::string::npos);
    }
  }
  std::printf("%ld allocations, %ld failed in turn, %ld times with an error\n", static_cast<long>(total), static_cast<long>(tried),
              static_cast<long>(refused));
  CHECK(refused > tried / 2);
}

}  // namespace

int main(int count, char **arguments) {
  ::alarm(600);
  write_artifact();
  every_failure(count > 1 && std::string(arguments[1]) == "all" ? 0 : 150);
  for (const char *file : {"model.onnx", "model.onnx.data", kTextFile, "state"}) ::unlink((folder + "/" + file).c_str());
  ::rmdir(folder.c_str());
  return finish("allocation_test");
}
