/* Tests the C API for text where it refuses: arguments, files that are cut, handles of other kinds or that were freed. */
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <thread>

#include "edgekit_tools.h"
#include "text/text_handle.h"
#include "text_folder.h"

namespace {

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
  request = ids_request(ids, 1);
  request.stop_text_count = -1;
  CHECK(refuses(ek_generate(session, artifact.text, &request, nullptr, nullptr), EK_BAD_ARGUMENT, "-1 stop texts were given"));
  request.stop_text_count = 0, request.stop_id_count = -1;
  CHECK(refuses(ek_generate(session, artifact.text, &request, nullptr, nullptr), EK_BAD_ARGUMENT, "stop_ids"));
  request.stop_id_count = 0, request.prompt_id_count = -1;
  CHECK(refuses(ek_generate(session, artifact.text, &request, nullptr, nullptr), EK_BAD_ARGUMENT, "the prompt is empty"));
  const ek_message question{"user", "A", 1, 0};
  CHECK(refuses(ek_prepare(session, artifact.text, &question, -1), EK_BAD_ARGUMENT, "a conversation of -1 messages"));
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
  CHECK(refuses(ek_watch_adjust(watch, logits, -1), EK_BAD_ARGUMENT, "must be 0 or more"));
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
  cut_file();
  other_handles();
  freed_by_the_callback();
  return finish("generate_errors_test");
}
