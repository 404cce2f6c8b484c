/* A libFuzzer target. The input chooses the arguments of a session and the fields of a request, also impossible ones. Each call
 * must return a status, and the session must be usable afterwards. */
#include "fuzz_input.h"

namespace {

int stop_later(const ek_event *event, void *left) { return event->kind != EK_EVENT_DONE && --*static_cast<int *>(left) < 0; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const FuzzArtifact artifact;
  Input in{bytes, bytes + size};
  ek_session *session = nullptr;
  const int64_t context = in.number();
  int status = ek_session_create(artifact.model, context, static_cast<int>(in.byte() % 3), in.byte() % 4 ? 0 : static_cast<int>(in.number()), &session);
  if (status != EK_OK) return 0;
  int32_t ids[64];
  for (int32_t &id : ids) id = in.id();
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
  status = checked(ek_generate(session, artifact.text, &request, stop_later, &left));
  std::vector<float> logits(kVocab);
  for (int i = 0; i < 4 && status != EK_FORKED; ++i) {
    const int64_t position = ek_session_position(session);
    switch (in.byte() % 5) {
      case 0: status = ek_session_rewind(session, in.number()); break;
      case 1: status = ek_session_evaluate(session, ids, in.number() % 65, 0, logits.data()); break;
      case 2: status = ek_session_next(session, ids[i], logits.data()); break;
      case 3: status = ek_session_tokens(session, ids, in.number() % 65); break;
      case 4: status = ek_prepare(session, artifact.text, messages, in.byte() % 4); break;
    }
    checked(status);
    expect(position >= 0 && ek_session_position(session) >= 0);
  }
  const int32_t id = 1;
  expect(ek_session_rewind(session, 0) == EK_OK && ek_session_evaluate(session, &id, 1, 0, logits.data()) == EK_OK);
  ek_session_free(session);
  return 0;
}
