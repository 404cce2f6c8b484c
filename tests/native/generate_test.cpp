/* Tests the C API for text: answers, preparing the next one (prepare.h), cancelling from a callback and from a thread, and a
 * callback that throws. tests/native/test_answers.py and test_chat.py compare the results with edgekit's Python runtime. */
#include "text/generate.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "edgekit_tools.h"
#include "text/text_handle.h"
#include "text_folder.h"

namespace {

int throws(const ek_event *, void *) { throw std::runtime_error("the window is closed"); }
int throws_number(const ek_event *, void *) { throw 7; }

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

/* The end of a thought counts at once, also while it is held back because a stop text begins as the tag ends. */
void stop_text_like_a_tag(const Artifact &artifact) {
  const ek_message message{"user", "HI", -1, 0};
  ek_request request{};
  request.size = sizeof request;
  request.messages = &message;
  request.message_count = 1;
  request.max_tokens = 12;
  ek_session *session = artifact.session();
  Seen open;
  CHECK(ek_generate(session, artifact.text, &request, see, &open) == EK_OK && open.thought_tokens == 12);
  ek_session_free(session);
  SmallText small;
  std::swap(small.tokens[static_cast<size_t>(open.ids[3])], small.tokens[static_cast<size_t>(small.id("</think>"))]);
  const Artifact closes(small);
  const auto end = std::find(open.ids.begin(), open.ids.end(), open.ids[3]) - open.ids.begin();
  for (const char *stop : {"never", ">>>"}) {
    request.stop_texts = &stop;
    request.stop_text_count = 1;
    session = closes.session();
    Seen seen;
    CHECK(ek_generate(session, closes.text, &request, see, &seen) == EK_OK && seen.ids == open.ids);
    CHECK(seen.thought_tokens == end + 1 && !seen.answer.empty());
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

}  // namespace

int main() {
  const Artifact artifact;
  answers(artifact);
  ends_within_a_character(artifact);
  stop_text_like_a_tag(artifact);
  cancelling(artifact);
  preparing(artifact);
  speculation(artifact);
  other_threads(artifact);
  return finish("generate_test");
}
