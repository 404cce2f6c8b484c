/* Tests sessions with every table this processor supports (session_checks.h), and the errors of sessions. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <functional>
#include <thread>

#include "session_checks.h"
#include "src/cpu.h"

namespace {

ek_status refused(const std::function<void()> &work, const char *words) {
  try {
    work();
  } catch (const Error &error) {
    const bool said = std::string(error.what()).find(words) != std::string::npos;
    if (!said) std::printf("  found: %s\n", error.what());
    CHECK(said);
    return error.status;
  }
  return EK_OK;
}

void refusals() {
  const SmallArtifact artifact;
  const std::shared_ptr<const Model> model = artifact.open();
  CHECK(refused([&] { Session(model, kScalar, kContext + 1, 1, KvType::kInt8); }, "context of 801 tokens; this model allows 1 to 800") == EK_CONTEXT);
  Session session(model, kScalar, 20, 1, KvType::kInt8), other(model, kScalar, 10, 1, KvType::kFloat16), tiny(model, kScalar, 4, 1, KvType::kInt8);
  const std::vector<int32_t> ids = some_ids(21);
  std::vector<float> logits(kVocab);
  CHECK(refused([&] { session.evaluate(ids.data(), 21, false, logits.data()); }, "21 tokens after 0 do not fit into the context of 20") == EK_CONTEXT);
  const int32_t bad = kVocab;
  CHECK(refused([&] { session.evaluate(&bad, 1, false, logits.data()); }, "token id 83 is outside the vocabulary of 83") == EK_TOKEN);
  CHECK(refused([&] { session.evaluate(&bad, 0, false, logits.data()); }, "cannot evaluate 0 tokens") == EK_BAD_ARGUMENT);
  session.evaluate(ids.data(), 6, false, logits.data());
  CHECK(refused([&] { session.rewind(7); }, "cannot rewind the session to 7 tokens: it has 6") == EK_BAD_ARGUMENT);
  CHECK(refused([&] { other.copy(session); }, "its key-value type is 0, that of the source is 1") == EK_BAD_ARGUMENT);
  CHECK(refused([&] { tiny.copy(session); }, "6 positions do not fit into a context of 4") == EK_CONTEXT);
  Session full(model, kScalar, 6, 1, KvType::kInt8), stranger(artifact.open(), kScalar, 20, 1, KvType::kInt8);
  full.copy(session);
  std::vector<float> rows(static_cast<size_t>(17 * kVocab));
  const auto step = [&](std::vector<Session *> sequences, const int32_t *tokens) {
    session.step(sequences.data(), static_cast<int64_t>(sequences.size()), tokens, rows.data());
  };
  CHECK(refused([&] { step({}, ids.data()); }, "a step of 0 sessions; this worker allows 1 to 16") == EK_BAD_ARGUMENT);
  CHECK(refused([&] { step(std::vector<Session *>(17, &other), ids.data()); }, "a step of 17 sessions") == EK_BAD_ARGUMENT);
  CHECK(refused([&] { step({&session, &other, &session}, ids.data()); }, "session 2 is in the step twice") == EK_BAD_ARGUMENT);
  CHECK(refused([&] { step({&other, &stranger}, ids.data()); }, "session 1 of the step belongs to another model") == EK_BAD_ARGUMENT);
  CHECK(refused([&] { step({&other, &full}, ids.data()); }, "session 1 of the step has filled its context of 6") == EK_CONTEXT);
  const auto pieces = [&](std::vector<int64_t> counts) {
    Session *const one = &other;
    session.step(&one, counts.data(), 1, ids.data(), rows.data());
  };
  CHECK(refused([&] { pieces({0}); }, "a step with 0 tokens for session 0; allowed: 1 or more, 16 in all") == EK_BAD_ARGUMENT);
  CHECK(refused([&] { pieces({17}); }, "a step with 17 tokens for session 0") == EK_BAD_ARGUMENT);
  CHECK(refused([&] { step({&other}, &bad); }, "token id 83 is outside the vocabulary of 83") == EK_TOKEN);
  CHECK(session.position() == 6 && other.position() == 0);
  char path[] = "/tmp/edgekit-session-test-XXXXXX";
  CHECK(::close(mkstemp(path)) == 0);
  CHECK(refused([&] { session.load(path); }, "is not a saved session") == EK_BAD_FILE);
  session.save(path);
  CHECK(refused([&] { other.load(path); }, "its key-value type is 1, that of this session is 0") == EK_BAD_FILE);
  CHECK(refused([&] { tiny.load(path); }, "its 6 positions do not fit into the context of 4") == EK_CONTEXT);
  CHECK(truncate(path, 200) == 0);
  CHECK(refused([&] { session.load(path); }, "it has 200 bytes; a file with 6 positions has") == EK_BAD_FILE);
  CHECK(session.position() == 6); /* nothing was read */
  unlink(path);
  CHECK(refused([&] { session.save("/no/such/folder/state"); }, "cannot open") == EK_BAD_FILE);
}

/* Every bit of a saved session counts, and its length. A damaged one is refused, and leaves the session as it was, or empty. */
void damaged_states() {
  const SmallArtifact artifact;
  const std::shared_ptr<const Model> model = artifact.open();
  const std::vector<int32_t> ids = some_ids(21);
  std::vector<float> logits(kVocab), expected(kVocab);
  char path[] = "/tmp/edgekit-session-test-XXXXXX";
  CHECK(::close(mkstemp(path)) == 0);
  for (const KvType type : {KvType::kFloat16, KvType::kInt8}) {
    Session session(model, kScalar, 20, 1, type), other(model, kScalar, 20, 1, type);
    session.evaluate(ids.data(), 3, false, logits.data());
    session.save(path);
    session.evaluate(&ids[3], 1, false, expected.data());
    std::string bytes(100000, '\0');
    std::FILE *file = std::fopen(path, "rb");
    bytes.resize(std::fread(&bytes[0], 1, bytes.size(), file));
    std::fclose(file);
    const auto load = [&](const std::string &written) {
      std::FILE *to = std::fopen(path, "wb");
      CHECK(std::fwrite(written.data(), 1, written.size(), to) == written.size() && std::fclose(to) == 0);
      try {
        other.load(path);
      } catch (const Error &error) {
        return error.status;
      }
      return EK_OK;
    };
    CHECK(load(bytes) == EK_OK && other.position() == 3);
    other.evaluate(&ids[3], 1, false, logits.data());
    CHECK(logits == expected);
    for (size_t i = 0; i < bytes.size(); i += i < 60 ? 1 : 37) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ 1 << i % 8);
      const ek_status status = load(changed);
      CHECK(status == EK_BAD_FILE || (i == 7 && status == EK_UNSUPPORTED)); /* also a number of positions that would not fit */
      CHECK(other.position() == 0 || other.position() == 4);
    }
    for (const size_t size : {size_t{0}, size_t{7}, size_t{31}, size_t{32}, size_t{40}, bytes.size() - 8, bytes.size() - 1})
      CHECK(load(bytes.substr(0, size)) == EK_BAD_FILE);
    CHECK(load(bytes + "x") == EK_BAD_FILE && load(bytes) == EK_OK && other.position() == 3);
  }
  Session session(model, kScalar, 20, 1, KvType::kFloat16);
  CHECK(refused([&] { session.load("/dev/zero"); }, "is not a saved session") == EK_BAD_FILE);
  std::FILE *file = std::fopen(path, "r+b");
  for (const char version : {'3', '5'}) {
    CHECK(std::fseek(file, 7, SEEK_SET) == 0 && std::fputc(version, file) == version && std::fflush(file) == 0);
    CHECK(refused([&] { session.load(path); }, (std::string("in format ") + version + "; this version reads format 4").c_str()) == EK_UNSUPPORTED);
  }
  std::fclose(file);
  unlink(path);
}

/* A pipe whose reader leaves before the end gives an error and not the signal that ends programs. */
void broken_pipe() {
  const SmallArtifact artifact;
  Session session(artifact.open(), kScalar, kContext, 1, KvType::kFloat16); /* more than a pipe holds */
  std::vector<float> logits(kVocab);
  session.evaluate(some_ids(700).data(), 700, false, logits.data());
  char folder[] = "/tmp/edgekit-session-test-XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  const std::string path = std::string(folder) + "/pipe";
  CHECK(mkfifo(path.c_str(), 0600) == 0);
  for (const bool blocked : {false, true}) {
    sigset_t pipe, before, now;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &pipe, &before);
    if (blocked) raise(SIGPIPE); /* one that the program has not taken yet */
    const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
    std::thread leaving([&] {
      char byte;
      while (::read(reader, &byte, 1) != 1) std::this_thread::yield();
      ::close(reader);
    });
    CHECK(refused([&] { session.save(path); }, "Broken pipe") == EK_BAD_FILE);
    leaving.join();
    sigpending(&now);
    CHECK(sigismember(&now, SIGPIPE) == blocked);
    int signal;
    if (blocked) CHECK(sigwait(&pipe, &signal) == 0);
    pthread_sigmask(SIG_BLOCK, nullptr, &now);
    CHECK(sigismember(&now, SIGPIPE) == blocked);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  unlink(path.c_str());
  rmdir(folder);
}

/* Threads that save to one path do not meet: each file that is there is whole. */
void saved_at_once() {
  const SmallArtifact artifact;
  const std::shared_ptr<const Model> model = artifact.open();
  const std::vector<int32_t> ids = some_ids(150);
  char path[] = "/tmp/edgekit-session-test-XXXXXX";
  CHECK(::close(mkstemp(path)) == 0);
  std::atomic<bool> writing{true};
  const auto save = [&](int64_t length) {
    Session session(model, kScalar, 150, 1, KvType::kFloat16);
    std::vector<float> logits(kVocab);
    session.evaluate(ids.data(), length, false, logits.data());
    for (int i = 0; i < 60; ++i) session.save(path);
    writing = false;
  };
  Session reader(model, kScalar, 150, 1, KvType::kFloat16);
  save(1);
  writing = true;
  std::thread first(save, 150), second(save, 60);
  for (int i = 0; writing || i < 2; ++i) {
    reader.load(path);
    CHECK(reader.position() == 1 || reader.position() == 60 || reader.position() == 150);
  }
  first.join();
  second.join();
  reader.load(path);
  CHECK(reader.position() == 60 || reader.position() == 150);
  unlink(path);
}

/* Sampling that is cancelled in the middle changes no random state. */
void cancelled_sampling() {
  const SmallArtifact artifact;
  Usage usage;
  Session session(artifact.open(), kScalar, 20, 1, KvType::kFloat16, &usage);
  constexpr size_t kRows = 16;
  const std::vector<float> logits(kRows * kVocab, 1.0f);
  const std::vector<ek_sampling> sampling(kRows, {1, 0.9f, 0, 1, 0});
  const uint8_t *seen[kRows] = {};
  int32_t tokens[kRows];
  std::vector<uint64_t> before(kRows);
  for (size_t r = 0; r < kRows; ++r) before[r] = r + 1;
  std::atomic<bool> done{false};
  std::thread canceller([&] {
    for (Random random{5}; !done;) {
      for (volatile int wait = random.below(20000); wait > 0;) wait = wait - 1;
      usage.cancel();
    }
  });
  for (int i = 0; i < 3000; ++i) {
    std::vector<uint64_t> states = before;
    CHECK(usage.begin());
    const ek_status status =
        refused([&] { session.sample(logits.data(), kRows, sampling.data(), seen, states.data(), tokens); }, "the call was cancelled");
    CHECK(status == EK_OK || status == EK_CANCELLED);
    CHECK((states == before) == (status == EK_CANCELLED));
    usage.end();
  }
  done = true;
  canceller.join();
}

/* A model with norms of the query and key heads: the scalar table's logits, however its tokens are divided into calls. */
void check_norms(const Kernels &kernels, double allowed) {
  static const SmallArtifact artifact(true);
  static const std::shared_ptr<const Model> model = artifact.open();
  const std::vector<int32_t> ids = some_ids(90);
  Session reference(model, kScalar, 100, 1, KvType::kFloat16), small(model, kernels, 100, 2, KvType::kInt8);
  const std::vector<float> expected = logits_of(reference, ids, {90});
  CHECK(difference(logits_of(small, ids, {70, 1, 9}), expected) <= kInt8Cache);
  for (const std::vector<int64_t> &pieces : {std::vector<int64_t>{90}, {70, 1, 9}}) {
    Session session(model, kernels, 100, 2, KvType::kFloat16);
    CHECK(near("norms of heads", kernels, difference(logits_of(session, ids, pieces), expected), allowed));
  }
  Session first(model, kernels, 100, 1, KvType::kFloat16), second(model, kernels, 100, 1, KvType::kFloat16);
  std::vector<float> skipped(kVocab), rows(2 * kVocab);
  first.evaluate(ids.data(), 89, false, skipped.data());
  second.evaluate(ids.data(), 40, false, skipped.data());
  Session *both[] = {&second, &first};
  const int32_t next[] = {ids[40], ids[89]};
  first.step(both, 2, next, rows.data());
  const auto row = [&](size_t i) { return std::vector<float>(&expected[i * kVocab], &expected[i * kVocab] + kVocab); };
  CHECK(near("a step with norms", kernels, difference({rows.begin(), rows.begin() + kVocab}, row(40)), allowed));
  CHECK(near("a step with norms", kernels, difference({rows.begin() + kVocab, rows.end()}, row(89)), allowed));
}

/* Each role from another table, as measuring may choose them. */
void check_mixture() {
  std::vector<const Kernels *> tables = runnable_kernels();
  if (tables.size() > 2) tables.pop_back(); /* scalar takes the longest */
  Parts parts = first_parts(tables);
  double allowed = kOrder;
  for (size_t role = 0; role < parts.size(); ++role) {
    const Kernels *table = tables[role % tables.size()];
    if (provides(*table, static_cast<Role>(role))) parts[role] = table;
    if (parts[role]->attends_in_bf16) allowed = kBf16Logits;
  }
  const std::string name = composed_name(parts);
  std::printf("%s\n", name.c_str());
  const Kernels mixture = compose(parts, name.c_str());
  check_session(mixture, allowed, kInt8Cache);
  check_norms(mixture, allowed);
}

}  // namespace

int main() {
  for (const Kernels &kernels : complete_kernels()) {
    std::printf("%s\n", kernels.name);
    const double allowed = kernels.attends_in_bf16 ? kBf16Logits : kOrder;
    check_session(kernels, allowed, kInt8Cache);
    check_norms(kernels, allowed);
  }
  check_mixture();
  refusals();
  damaged_states();
  broken_pipe();
  saved_at_once();
  cancelled_sampling();
  return finish("session_test");
}
