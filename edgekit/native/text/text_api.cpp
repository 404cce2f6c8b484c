/* Implements include/edgekit_text.h, the C API for text. No exception leaves this file. */
#include "edgekit_text.h"

#include "../src/abi.h"

using ek::guarded;

namespace {

int later(const char *name) {
  return guarded([&] { ek::fail(EK_UNSUPPORTED, "%s is not available in this build", name); });
}

}  // namespace

int ek_text_open(const char *, ek_text **) { return later("ek_text_open"); }
void ek_text_close(ek_text *) {}
int ek_text_describe(const ek_text *, ek_text_info *) { return later("ek_text_describe"); }
int32_t ek_text_stop_id(const ek_text *, int32_t) { return -1; }
int32_t ek_text_token_id(const ek_text *, const char *) { return -1; }
int ek_text_encode(const ek_text *, const char *, int64_t, int, int32_t *, int64_t, int64_t *) { return later("ek_text_encode"); }
int ek_text_decode(const ek_text *, const int32_t *, int64_t, char *, int64_t, int64_t *) { return later("ek_text_decode"); }
int ek_text_prompt(const ek_text *, const ek_message *, int64_t, int32_t *, int64_t, int64_t *) { return later("ek_text_prompt"); }
int ek_stream_create(const ek_text *, ek_stream **) { return later("ek_stream_create"); }
void ek_stream_free(ek_stream *) {}
int ek_stream_push(ek_stream *, int32_t, const char **, int64_t *) { return later("ek_stream_push"); }
int ek_stream_finish(ek_stream *, const char **, int64_t *) { return later("ek_stream_finish"); }
int ek_generate(ek_session *, const ek_text *, const ek_request *, ek_on_event, void *) { return later("ek_generate"); }

void ek_session_cancel(ek_session *session) {
  if (session) session->cancelled = true;
}
