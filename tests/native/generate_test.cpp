/* Tests the C API for text: handles, output arrays, answers, preparing the next one (prepare.h), cancelling from a callback and
 * from a thread, and a callback that throws. tests/native/test_answers.py and test_chat.py compare the results with edgekit's
 * Python runtime. */
#include "text/generate.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "edgekit_tools.h"
#include "small_artifact.h"
#include "small_text.h"
#include "text/text_handle.h"

namespace {

bool refuses(int status, int expected, const char *words) {
  if (status == expected && std::string(ek_last_error()).find(words) != std::string::npos) return true;
  std::printf("  found: %d, %s\n", status, ek_last_error());
  return false;
}

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
  int64_t reused = 0, accepted = 0, prompts = 0, events = 0, cancel_at = -1;
  ek_session *cancels = nullptr; /* cancelled by ek_session_cancel instead of by the returned value */
};

int see(const ek_event *event, void *context) {
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
    CHECK(done.size == sizeof done && done.ttft_s >= 0);
  }
  if (seen.events++ != seen.cancel_at) return 0;
  if (!seen.cancels) return 1;
  ek_session_cancel(seen.cancels);
  return 0;
}

int throws(const ek_event *, void *) { throw std::runtime_error("the window is closed"); }
int throws_number(const ek_event *, void *) { throw 7; }

ek_request ids_request(const std::vector<int32_t> &ids, int64_t max_tokens) {
  ek_request request{};
  request.size = sizeof request;
  request.prompt_ids = ids.data();
  request.prompt_id_count = static_cast<int64_t>(ids.size());
  request.max_tokens = max_tokens;
  return request;
}

void answers(const Artifact &artifact) {
  ek_session *session = artifact.session();
  const std::vector<int32_t> ids{3, 1, 4, 1, 5};
  ek_request request = ids_request(ids, 12);
  Seen first, again;
  CHECK(ek_generate(session, artifact.text, &request, see, &first) == EK_OK);
  CHECK(first.finish == EK_FINISH_LENGTH && first.ids.size() == 12 && first.prompt == ids && first.answer == first.text && first.reused == 0);
  CHECK(ek_session_position(session) == 5 + 11);
  CHECK(ek_generate(session, artifact.text, &request, see, &again) == EK_OK && again.prompt == first.prompt && again.reused == 4);

  /* The same by hand. */
  std::vector<float> logits(kVocab);
  CHECK(ek_session_rewind(session, 0) == EK_OK && ek_session_evaluate(session, ids.data(), 5, 0, logits.data()) == EK_OK);
  int32_t token = 0;
  uint64_t state = 1;
  const ek_sampling greedy{0, 1, 0, 1, 0};
  CHECK(ek_sample(logits.data(), kVocab, &greedy, nullptr, &state, &token) == EK_OK && token == first.ids[0]);

  request.stop_ids = &first.ids[3];
  request.stop_id_count = 1;
  Seen stopped;
  CHECK(ek_generate(session, artifact.text, &request, see, &stopped) == EK_OK && stopped.finish == EK_FINISH_STOP);
  CHECK(stopped.ids.size() <= 4 && stopped.ids.back() == first.ids[3]);

  const ek_message message{"user", "HI", -1, 0}; /* a thought that never ends */
  ek_request chat{};
  chat.size = sizeof chat;
  chat.messages = &message;
  chat.message_count = 1;
  chat.max_tokens = 8;
  Seen thought;
  CHECK(ek_generate(session, artifact.text, &chat, see, &thought) == EK_OK && thought.answer.empty());
  CHECK(thought.prompt == (std::vector<int32_t>{'?', 'H', 'I', '?'}) && thought.ids.size() == 8);
  CHECK(ek_generate(session, artifact.text, &request, nullptr, nullptr) == EK_OK); /* without a callback */
  ek_session_free(session);
}

/* An answer ends within a character, while the character before it is held back because a stop text begins with it. */
void ends_within_a_character(const Artifact &artifact) {
  const std::vector<int32_t> ids{3, 1, 4, 1, 5};
  ek_request request = ids_request(ids, 40);
  Seen plain;
  ek_session *session = artifact.session();
  CHECK(ek_generate(session, artifact.text, &request, see, &plain) == EK_OK && plain.text.size() == 40);
  ek_session_free(session);
  size_t last = 1; /* an id that is new */
  while (last < 39 && std::count(plain.ids.begin(), plain.ids.end(), plain.ids[last]) > std::count(plain.ids.begin() + static_cast<std::ptrdiff_t>(last), plain.ids.end(), plain.ids[last])) ++last;
  SmallText small;
  std::swap(small.tokens[static_cast<size_t>(plain.ids[last])], small.tokens[0xE2]);
  const Artifact cut(small);
  const std::string replacement = "\xEF\xBF\xBD", held = plain.text.substr(last - 1, 1), before = plain.text.substr(0, last - 1);
  request.max_tokens = static_cast<int64_t>(last) + 1;
  request.stop_text_count = 1;
  for (const bool found : {false, true}) {
    const std::string stop = held + replacement + (found ? "" : "more");
    const char *stops[] = {stop.c_str()};
    request.stop_texts = stops;
    session = cut.session();
    Seen seen;
    CHECK(ek_generate(session, cut.text, &request, see, &seen) == EK_OK && seen.ids.size() == last + 1);
    CHECK(seen.finish == (found ? EK_FINISH_STOP : EK_FINISH_LENGTH) && seen.text == seen.answer);
    CHECK(seen.text == (found ? before : before + held + replacement));
    ek_session_free(session);
  }
}

void cancelling(const Artifact &artifact) {
  ek_session *session = artifact.session();
  std::vector<int32_t> prompt(300);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i % kVocab);
  const ek_request request = ids_request(prompt, 50);
  for (ek_session *cancels : {static_cast<ek_session *>(nullptr), session}) {
    CHECK(ek_session_rewind(session, 0) == EK_OK);
    Seen reading;
    reading.cancel_at = 0; /* the first event is about the prompt */
    reading.cancels = cancels;
    CHECK(ek_generate(session, artifact.text, &request, see, &reading) == EK_OK);
    CHECK(reading.finish == EK_FINISH_CANCELLED && reading.ids.empty() && reading.prompts == 1);
    CHECK(ek_session_position(session) > 0 && ek_session_position(session) < 300);
    Seen writing;
    writing.cancel_at = 9;
    writing.cancels = cancels;
    CHECK(ek_generate(session, artifact.text, &request, see, &writing) == EK_OK);
    CHECK(writing.finish == EK_FINISH_CANCELLED && !writing.ids.empty() && writing.ids.size() < 50 && writing.reused > 0);
  }
  Seen whole;
  CHECK(ek_generate(session, artifact.text, &request, see, &whole) == EK_OK && whole.finish == EK_FINISH_LENGTH);

  CHECK(refuses(ek_generate(session, artifact.text, &request, throws, nullptr), EK_CALLBACK, "the window is closed"));
  CHECK(refuses(ek_generate(session, artifact.text, &request, throws_number, nullptr), EK_CALLBACK, "threw an exception"));
  CHECK(ek_generate(session, artifact.text, &request, see, &whole) == EK_OK);
  ek_session_free(session);
}

/* After an answer with a thought, the answer alone is evaluated behind the prompt. */
void preparing(const Artifact &artifact) {
  std::string said = "HELLO ";
  for (int i = 0; i < 330; ++i) said += static_cast<char>('A' + i * i % 16);
  const ek_message messages[] = {{"user", "HI", -1, 0}, {"assistant", said.c_str(), -1, 0}, {"user", "NO", -1, 0}};
  ek_request first{}, second{};
  first.size = second.size = sizeof first;
  first.messages = second.messages = messages;
  first.message_count = 1;
  second.message_count = 3;
  first.max_tokens = 30;
  second.max_tokens = 40;
  const int64_t start = 1 + 2 + 1 + static_cast<int64_t>(said.size()) + 1; /* ?HI?...? */
  std::vector<int32_t> ids;
  for (int round = 0; round < 4; ++round) {
    ek_session *session = artifact.session();
    Seen thought, answer;
    CHECK(ek_generate(session, artifact.text, &first, see, &thought) == EK_OK && ek_session_position(session) == 4 + 29);
    std::atomic<bool> done{false};
    std::thread canceller([&] {
      while (round == 2 && !done) {
        if (ek_session_position(session) >= 4 + 128) ek_session_cancel(session);
        std::this_thread::yield();
      }
    });
    const int status = ek_prepare(session, artifact.text, messages, 2);
    done = true;
    canceller.join();
    CHECK(status == EK_OK || (round == 2 && status == EK_CANCELLED));
    if (round != 2) CHECK(ek_session_position(session) == start);
    if (round == 3) CHECK(ek_session_rewind(session, 4 + 128) == EK_OK); /* as if it had been cancelled */
    if (round == 1) CHECK(ek_prepare(session, artifact.text, messages, 2) == EK_OK); /* nothing is left to do */
    CHECK(ek_generate(session, artifact.text, &second, see, &answer) == EK_OK && answer.ids.size() == 40);
    if (round < 2) CHECK(answer.reused == start);
    if (round == 3) CHECK(answer.reused == 4 + 128);
    if (ids.empty()) ids = answer.ids;
    CHECK(ids == answer.ids); /* however far it was prepared */
    ek_session_free(session);
  }
  ek_session *session = artifact.session(20);
  CHECK(ek_prepare(session, artifact.text, messages, 2) == EK_OK && ek_session_position(session) == 0); /* no room */
  CHECK(refuses(ek_prepare(nullptr, artifact.text, messages, 2), EK_BAD_ARGUMENT, "ek_prepare"));
  CHECK(refuses(ek_prepare(session, artifact.text, messages + 1, 1), EK_UNSUPPORTED, "begins with a message of the assistant"));
  ek_session_free(session);
}

/* Answers are the same with and without guessed tokens. */
void speculation(const Artifact &artifact) {
  std::vector<int32_t> prompt;
  for (int i = 0; i < 60; ++i) prompt.push_back(i % 20);
  std::vector<Seen> seen(2);
  for (const int without : {0, 1}) {
    ek_session *session = artifact.session();
    ek_request request = ids_request(prompt, 100);
    request.no_speculation = without;
    CHECK(ek_generate(session, artifact.text, &request, see, &seen[static_cast<size_t>(without)]) == EK_OK);
    CHECK(ek_session_position(session) == 60 + 99 && ek_session_accepted(session) == seen[static_cast<size_t>(without)].accepted);
    ek_session_free(session);
  }
  CHECK(seen[0].ids == seen[1].ids && seen[1].accepted == 0 && seen[0].ids.size() == 100);

  ek_session *session = artifact.session(), *plain = artifact.session();
  const std::vector<int32_t> text{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  std::vector<float> logits(static_cast<size_t>(ek_model_vocab_size(artifact.model))), expected(logits.size());
  for (const int32_t id : text) {
    CHECK(ek_session_next(session, id, logits.data()) == EK_OK && ek_session_evaluate(plain, &id, 1, 0, expected.data()) == EK_OK);
    CHECK(logits == expected);
  }
  CHECK(ek_session_accepted(session) > 3 && ek_session_position(session) == 25 && ek_session_accepted(nullptr) == 0);
  CHECK(refuses(ek_session_next(session, -1, logits.data()), EK_TOKEN, "outside the vocabulary"));
  CHECK(refuses(ek_session_next(nullptr, 1, logits.data()), EK_BAD_ARGUMENT, "ek_session_next"));
  ek_session_free(session);
  ek_session_free(plain);
}

void other_threads(const Artifact &artifact) {
  ek_session *session = artifact.session();
  const std::vector<int32_t> prompt{1, 2, 3};
  const ek_request request = ids_request(prompt, 0);
  std::atomic<bool> stop{false};
  std::thread canceller([&] {
    while (!stop) {
      ek_session_cancel(session);
      std::this_thread::yield();
    }
  });
  std::thread second([&] {
    while (!stop) {
      const int status = ek_generate(session, artifact.text, &request, nullptr, nullptr);
      CHECK(status == EK_OK || status == EK_BUSY);
    }
  });
  std::thread reader([&] {
    int64_t count = 0;
    int32_t ids[32];
    for (int i = 0; i < 200; ++i) CHECK(ek_text_encode(artifact.text, "hello <a> world", -1, 0, ids, 32, &count) == EK_OK && count == 8);
  });
  for (int i = 0; i < 20; ++i) {
    const int status = ek_generate(session, artifact.text, &request, nullptr, nullptr);
    CHECK(status == EK_OK || status == EK_BUSY);
  }
  reader.join();
  stop = true;
  canceller.join();
  second.join();
  ek_session_free(session);
}

void arguments(const Artifact &artifact) {
  ek_session *session = artifact.session(20);
  const std::vector<int32_t> ids{1, 2}, many(21, 1);
  ek_request request = ids_request(ids, 1);
  CHECK(refuses(ek_generate(nullptr, artifact.text, &request, see, nullptr), EK_BAD_ARGUMENT, "ek_generate"));
  request.prompt = "x";
  CHECK(refuses(ek_generate(session, artifact.text, &request, nullptr, nullptr), EK_BAD_ARGUMENT, "exactly one of messages, prompt and prompt_ids"));
  request = ids_request(many, 1);
  CHECK(refuses(ek_generate(session, artifact.text, &request, nullptr, nullptr), EK_CONTEXT, "the prompt has 21 tokens; the context holds 20"));
  request = ids_request(ids, -1);
  CHECK(refuses(ek_generate(session, artifact.text, &request, nullptr, nullptr), EK_BAD_ARGUMENT, "max_tokens is -1"));
  request = ids_request(ids, 1);
  for (const size_t size : {size_t{0}, size_t{7}, offsetof(ek_request, prompt_bytes) + 1, sizeof request - 1, size_t{65544}}) {
    request.size = static_cast<int64_t>(size);
    CHECK(refuses(ek_generate(session, artifact.text, &request, nullptr, nullptr), EK_BAD_ARGUMENT, "sizeof(ek_request)"));
  }
  struct Newer {
    ek_request request;
    int64_t field;
  } newer{ids_request(ids, 1), 0};
  newer.request.size = sizeof newer;
  CHECK(ek_generate(session, artifact.text, &newer.request, nullptr, nullptr) == EK_OK);
  newer.field = 1;
  CHECK(refuses(ek_generate(session, artifact.text, &newer.request, nullptr, nullptr), EK_UNSUPPORTED, "does not know"));
  ek_session_free(session);

  int64_t count = 0;
  int32_t out[4] = {-7, -7, -7, -7};
  CHECK(ek_text_encode(artifact.text, "ABCDE", -1, 0, out, 2, &count) == EK_OK && count == 5 && out[1] == 'B' && out[2] == -7);
  CHECK(refuses(ek_text_encode(artifact.text, "A", 1, 6, out, 4, &count), EK_BAD_ARGUMENT, "the flags 6"));
  CHECK(refuses(ek_text_encode(artifact.text, "A", -2, 0, out, 4, &count), EK_BAD_ARGUMENT, "a text of -2 bytes"));
  CHECK(refuses(ek_text_encode(artifact.text, "A", 1, 0, nullptr, 4, &count), EK_BAD_ARGUMENT, "must not be NULL"));
  char text[4] = {1, 1, 1, 1};
  CHECK(ek_text_decode(artifact.text, ids.data(), 2, text, 4, &count) == EK_OK && count == 2 && text[2] == 0 && text[3] == 1);
  CHECK(ek_text_decode(artifact.text, nullptr, 0, nullptr, 0, &count) == EK_OK && count == 0);
  ek_text_info info{};
  CHECK(refuses(ek_text_describe(artifact.text, &info), EK_BAD_ARGUMENT, "sizeof(ek_text_info)"));
  info.size = sizeof info;
  CHECK(ek_text_describe(artifact.text, &info) == EK_OK && info.tokens == 268 && info.has_chat == 1 && info.bos == -1);
  CHECK(ek_text_stop_id(artifact.text, 0) == -1 && ek_text_token_id(artifact.text, "<a>") >= 256 && ek_text_token_id(nullptr, "") == -1);
  const ek_message messages[] = {{"user", "A", 1, 0}, {"assistant", "</think>B", -1, 1}, {"user", nullptr, 0, 0}};
  CHECK(ek_text_prompt(artifact.text, messages, 3, nullptr, 0, &count) == EK_OK && count == 6); /* ?A?B??  without the thought */
  const ek_message unfinished[] = {{"user", "A", 1, 0}, {"assistant", "BCD", 3, 1}, {"user", "E", 1, 0}};
  CHECK(ek_text_prompt(artifact.text, unfinished, 3, nullptr, 0, &count) == EK_OK && count == 6); /* ?A??E?  it is all thought */
  CHECK(refuses(ek_text_prompt(artifact.text, messages, 2, nullptr, 0, &count), EK_UNSUPPORTED, "end with one of the user"));
  for (const char *start : {"", "a"}) { /* an unknown role is cut between characters */
    std::string role = start;
    for (int i = 0; i < 30; ++i) role += "\xC3\xA9";
    const ek_message unknown{role.c_str(), "A", 1, 0};
    CHECK(refuses(ek_text_prompt(artifact.text, &unknown, 1, nullptr, 0, &count), EK_BAD_ARGUMENT, (role.substr(0, *start ? 39 : 40) + "';").c_str()));
  }
  CHECK(refuses(ek_text_prompt(artifact.text, nullptr, 1, nullptr, 0, &count), EK_BAD_ARGUMENT, "ek_text_prompt"));
  ek_stream *stream = nullptr;
  const char *piece = nullptr;
  CHECK(ek_stream_create(artifact.text, &stream) == EK_OK && ek_stream_push(stream, 'A', &piece, &count) == EK_OK && std::string(piece) == "A");
  CHECK(ek_stream_finish(stream, &piece, &count) == EK_OK && count == 0 && *piece == 0);
  ek_stream_free(stream);
}

/* The tables are a copy of the file, so nothing that happens to it matters. */
void cut_file() {
  const Artifact artifact;
  CHECK(::truncate((artifact.folder + "/" + kTextFile).c_str(), 100) == 0);
  int32_t ids[8] = {};
  int64_t size = 0;
  CHECK(ek_text_encode(artifact.text, "ABCDE", 5, 0, ids, 8, &size) == EK_OK && size == 5 && ids[4] == 'E');
  ek_text *again = nullptr;
  CHECK(refuses(ek_text_open(artifact.folder.c_str(), &again), EK_BAD_FILE, "is damaged") && !again);
}

/* Handles of texts, streams and watches that are freed or in use. */
void other_handles() {
  const Artifact artifact;
  ek_text *text = nullptr;
  ek_stream *stream = nullptr;
  ek_watch *watch = nullptr;
  const char *piece = nullptr;
  int64_t size = 0;
  int32_t action = 0, ids[4];
  float logits[4] = {};
  CHECK(ek_text_open(artifact.folder.c_str(), &text) == EK_OK && ek_stream_create(text, &stream) == EK_OK && ek_watch_create(5, 0, 1, &watch) == EK_OK);
  {
    const Using<ek_stream> in_use(*stream);
    CHECK(refuses(ek_stream_push(stream, 'A', &piece, &size), EK_BUSY, "another call uses this stream"));
    CHECK(refuses(ek_stream_finish(stream, &piece, &size), EK_BUSY, "another call uses this stream"));
    const Using<ek_watch> watching(*watch);
    CHECK(refuses(ek_watch_push(watch, 1, 1, &action), EK_BUSY, "another call uses this watch"));
    CHECK(refuses(ek_watch_adjust(watch, logits, 4), EK_BUSY, "another call uses this watch"));
  }
  for (int i = 0; i < 2; ++i) ek_text_close(text);
  CHECK(ek_stream_push(stream, 'A', &piece, &size) == EK_OK && size == 1); /* it keeps the text */
  CHECK(refuses(ek_text_encode(text, "A", 1, 0, ids, 4, &size), EK_BAD_ARGUMENT, "this text was freed"));
  CHECK(refuses(ek_text_decode(text, ids, 0, nullptr, 0, &size), EK_BAD_ARGUMENT, "this text was freed"));
  CHECK(ek_text_stop_id(text, 0) == -1 && ek_text_token_id(text, "<a>") == -1);
  ek_stream *other = nullptr;
  CHECK(refuses(ek_stream_create(text, &other), EK_BAD_ARGUMENT, "this text was freed"));
  ek_session *session = artifact.session();
  ek_request request{};
  request.size = sizeof request;
  request.prompt = "hi";
  request.prompt_bytes = 2;
  CHECK(refuses(ek_generate(session, text, &request, see, nullptr), EK_BAD_ARGUMENT, "this text was freed"));
  for (int i = 0; i < 2; ++i) {
    ek_stream_free(stream);
    ek_watch_free(watch);
    ek_session_free(session);
  }
  CHECK(refuses(ek_stream_finish(stream, &piece, &size), EK_BAD_ARGUMENT, "this stream was freed"));
  CHECK(refuses(ek_watch_push(watch, 1, 1, &action), EK_BAD_ARGUMENT, "this watch was freed") && ek_watch_loops(watch) == 0);
  CHECK(refuses(ek_generate(session, artifact.text, &request, see, nullptr), EK_BAD_ARGUMENT, "this session was freed"));
}

/* A callback may free the session of its answer, which then ends. */
void freed_by_the_callback() {
  const Artifact artifact;
  ek_session *session = artifact.session();
  ek_request request{};
  request.size = sizeof request;
  request.prompt = "AB";
  request.prompt_bytes = 2;
  request.ignore_stops = 1;
  const ek_on_event free_it = [](const ek_event *event, void *context) {
    CHECK(event->kind != EK_EVENT_DONE || event->completion->finish == EK_FINISH_CANCELLED);
    ek_session_free(static_cast<ek_session *>(context));
    return 0;
  };
  CHECK(ek_generate(session, artifact.text, &request, free_it, session) == EK_OK);
  CHECK(refuses(ek_session_rewind(session, 0), EK_BAD_ARGUMENT, "this session was freed"));
}

}  // namespace

int main() {
  const Artifact artifact;
  arguments(artifact);
  answers(artifact);
  ends_within_a_character(artifact);
  cancelling(artifact);
  preparing(artifact);
  speculation(artifact);
  other_threads(artifact);
  cut_file();
  other_handles();
  freed_by_the_callback();
  return finish("generate_test");
}
