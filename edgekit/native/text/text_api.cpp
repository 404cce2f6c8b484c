/* Implements include/edgekit_text.h, the C API for text. No exception leaves this file. */
#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "../src/abi.h"
#include "chat.h"
#include "edgekit_tools.h"
#include "generate.h"
#include "prepare.h"
#include "stream.h"
#include "text_handle.h"
#include "tokenizer.h"
#include "watch.h"

using ek::fail;
using ek::guarded;
using ek::need;

namespace {

/* Copy the first `capacity` of the elements; see "Output arrays" in the header. */
template <typename T>
void copy_out(const T *from, size_t total, T *to, int64_t capacity, int64_t *count) {
  if (capacity < 0) fail(EK_BAD_ARGUMENT, "a capacity of %" PRId64 " was given; allowed: 0 or more", capacity);
  need(to || !capacity, "the output array must not be NULL if its capacity is not 0");
  if (total) std::copy_n(from, std::min(total, static_cast<size_t>(capacity)), to);
  *count = static_cast<int64_t>(total);
}

/* The fields that this library knows. Throws Error if the caller's version of the struct has others that are set. */
ek_request known_request(const ek_request &request) {
  ek_request known{};
  const auto size = static_cast<size_t>(request.size);
  /* Every version of the struct has a multiple of its alignment. Another size would cut a field in two. */
  if (request.size < static_cast<int64_t>(sizeof request.size) || size > 65536 || size % alignof(ek_request))
    fail(EK_BAD_ARGUMENT, "ek_generate: the size of the request is %" PRId64 "; set it to sizeof(ek_request)", request.size);
  std::memcpy(&known, &request, std::min(size, sizeof known));
  const auto *bytes = reinterpret_cast<const uint8_t *>(&request);
  for (size_t i = sizeof known; i < size; ++i)
    if (bytes[i]) fail(EK_UNSUPPORTED, "ek_generate: the request has a field that this version of the library does not know");
  return known;
}

}  // namespace

int ek_text_open(const char *folder, ek_text **text) {
  return guarded([&] {
    need(folder && text, "ek_text_open: folder and text must not be NULL");
    *text = ek::made<ek_text>([&](ek::Usage &) { return std::make_shared<ek::Tables>(folder); });
  });
}

void ek_text_close(ek_text *text) { ek::free_handle(text, ek::Kind::kText); }

int ek_text_describe(const ek_text *text, ek_text_info *info) {
  return guarded([&] {
    need(text && info, "ek_text_describe: text and info must not be NULL");
    const auto opened = ek::pinned(text);
    const ek::Tables &tables = *opened;
    ek_text_info found{};
    found.size = info->size;
    found.tokens = static_cast<int32_t>(tables.tokens);
    found.bos = tables.settings.bos;
    found.adds_bos = tables.settings.adds_bos != 0;
    found.reasoning = tables.settings.reasoning != 0;
    found.has_chat = tables.settings.has_chat != 0;
    found.stop_ids = static_cast<int32_t>(tables.stop_ids.size());
    found.sampling = tables.settings.sampling;
    if (info->size < static_cast<int64_t>(sizeof info->size))
      fail(EK_BAD_ARGUMENT, "ek_text_describe: size is %" PRId64 "; set it to sizeof(ek_text_info)", info->size);
    std::memcpy(info, &found, std::min(sizeof found, static_cast<size_t>(info->size)));
  });
}

int32_t ek_text_stop_id(const ek_text *text, int32_t index) {
  int32_t id = -1;
  if (text && index >= 0)
    guarded([&] {
      const std::vector<int32_t> &ids = ek::pinned(text)->stop_ids;
      if (static_cast<size_t>(index) < ids.size()) id = ids[static_cast<size_t>(index)];
    });
  return id;
}

int32_t ek_text_token_id(const ek_text *text, const char *token) {
  int32_t id = -1;
  if (text && token) guarded([&] { id = ek::added_token_id(*ek::pinned(text), token); });
  return id;
}

int ek_text_encode(const ek_text *text, const char *utf8, int64_t bytes, int flags, int32_t *ids, int64_t capacity, int64_t *count) {
  return guarded([&] {
    need(text && count, "ek_text_encode: text and count must not be NULL");
    constexpr int kAll = EK_ENCODE_PLAIN | EK_ENCODE_BOS | EK_ENCODE_NO_BOS, kBoth = EK_ENCODE_BOS | EK_ENCODE_NO_BOS;
    if (flags & ~kAll || (flags & kBoth) == kBoth)
      fail(EK_BAD_ARGUMENT, "ek_text_encode: the flags %d are not a sum of ek_encode_flags that go together", flags);
    const auto opened = ek::pinned(text);
    const ek::Tables &tables = *opened;
    ek::WrittenText written;
    written.add(ek::given_text(utf8, bytes), flags & EK_ENCODE_PLAIN ? ek::Writer::kUser : ek::Writer::kTemplate);
    std::vector<int32_t> found;
    ek::Encoder(tables).encode(written, found);
    ek::apply_bos(tables, flags & kBoth ? flags & EK_ENCODE_BOS : tables.settings.adds_bos, found);
    copy_out(found.data(), found.size(), ids, capacity, count);
  });
}

int ek_text_decode(const ek_text *text, const int32_t *ids, int64_t count, char *utf8, int64_t capacity, int64_t *bytes) {
  return guarded([&] {
    need(text && bytes && (ids || count == 0), "ek_text_decode: text, ids and bytes must not be NULL");
    if (count < 0) fail(EK_BAD_ARGUMENT, "ek_text_decode: %" PRId64 " ids were given; allowed: 0 or more", count);
    const std::string found = ek::decode(*ek::pinned(text), ids, count);
    copy_out(found.data(), found.size(), utf8, capacity, bytes);
    if (static_cast<size_t>(capacity) > found.size()) utf8[found.size()] = '\0';
  });
}

int ek_text_words(const ek_text *text, const char *utf8, int64_t bytes, char *normalized, int64_t capacity, int64_t *size,
                  int64_t *ends, int64_t most, int64_t *count) {
  return guarded([&] {
    need(text && size && count, "ek_text_words: text, size and count must not be NULL");
    ek::WordEnds found;
    const auto opened = ek::pinned(text);
    ek::Encoder(*opened).words(ek::given_text(utf8, bytes), found);
    copy_out(found.normalized.data(), found.normalized.size(), normalized, capacity, size);
    copy_out(found.ends.data(), found.ends.size(), ends, most, count);
  });
}

int ek_text_prompt(const ek_text *text, const ek_message *messages, int64_t count, int32_t *ids, int64_t capacity, int64_t *written) {
  return guarded([&] {
    need(text && messages && written, "ek_text_prompt: text, messages and written must not be NULL");
    const auto opened = ek::pinned(text);
    const ek::Tables &tables = *opened;
    std::vector<int32_t> found;
    ek::Encoder(tables).encode(ek::render(tables, messages, count), found);
    ek::apply_bos(tables, tables.settings.adds_bos, found);
    copy_out(found.data(), found.size(), ids, capacity, written);
  });
}

int ek_stream_create(const ek_text *text, ek_stream **stream) {
  return guarded([&] {
    need(text && stream, "ek_stream_create: text and stream must not be NULL");
    const auto opened = ek::pinned(text);
    *stream = ek::made<ek_stream>([&](ek::Usage &) {
      return std::shared_ptr<ek::StreamObject>(new ek::StreamObject{ek::TextStream(opened), {}});
    });
  });
}

void ek_stream_free(ek_stream *stream) { ek::free_handle(stream, ek::Kind::kStream); }

int ek_stream_push(ek_stream *stream, int32_t id, const char **utf8, int64_t *bytes) {
  return guarded([&] {
    need(stream && utf8 && bytes, "ek_stream_push: stream, utf8 and bytes must not be NULL");
    const ek::Using<ek_stream> in_use(*stream);
    in_use->piece.clear();
    in_use->stream.push(id, in_use->piece);
    *utf8 = in_use->piece.c_str();
    *bytes = static_cast<int64_t>(in_use->piece.size());
  });
}

int ek_stream_finish(ek_stream *stream, const char **utf8, int64_t *bytes) {
  return guarded([&] {
    need(stream && utf8 && bytes, "ek_stream_finish: stream, utf8 and bytes must not be NULL");
    const ek::Using<ek_stream> in_use(*stream);
    in_use->piece.clear();
    in_use->stream.flush(in_use->piece);
    *utf8 = in_use->piece.c_str();
    *bytes = static_cast<int64_t>(in_use->piece.size());
  });
}

int ek_generate(ek_session *session, const ek_text *text, const ek_request *request, ek_on_event on_event, void *context) {
  return guarded([&] {
    need(session && text && request, "ek_generate: session, text and request must not be NULL");
    const ek_request own = known_request(*request);
    ek::generate(*session, ek::pinned(text), own, on_event, context);
  });
}

int ek_prepare(ek_session *session, const ek_text *text, const ek_message *messages, int64_t count) {
  return guarded([&] {
    need(session && text && messages, "ek_prepare: session, text and messages must not be NULL");
    ek::prepare(*session, *ek::pinned(text), messages, count);
  });
}

int ek_watch_create(int64_t max_thought_tokens, int loop_guard, int inside, ek_watch **watch) {
  return guarded([&] {
    need(watch, "ek_watch_create: watch must not be NULL");
    *watch = ek::made<ek_watch>([&](ek::Usage &) { return std::make_shared<ek::Watch>(max_thought_tokens, loop_guard, inside != 0); });
  });
}

void ek_watch_free(ek_watch *watch) { ek::free_handle(watch, ek::Kind::kWatch); }

int ek_watch_push(ek_watch *watch, int32_t token, int in_thought, int32_t *action) {
  return guarded([&] {
    need(watch && action, "ek_watch_push: watch and action must not be NULL");
    *action = ek::Using<ek_watch>(*watch)->push(token, in_thought != 0);
  });
}

int ek_watch_adjust(const ek_watch *watch, float *logits, int64_t n) {
  return guarded([&] {
    need(watch && logits, "ek_watch_adjust: watch and logits must not be NULL");
    need(n >= 0, "ek_watch_adjust: the number of logits must be 0 or more");
    ek::Using<ek_watch>(*watch)->adjust(logits, n);
  });
}

int64_t ek_watch_loops(const ek_watch *watch) {
  return ek::number_of(watch, [](const ek::Watch &of) { return of.loops(); });
}

int ek_thought_closing(int32_t action, const char *text, int64_t bytes, char *utf8, int64_t capacity, int64_t *size) {
  return guarded([&] {
    need(size, "ek_thought_closing: size must not be NULL");
    if (action != EK_WATCH_CLOSE_SPENT && action != EK_WATCH_CLOSE_LOOP)
      fail(EK_BAD_ARGUMENT, "ek_thought_closing: the action is %d; allowed: 2 (spent) and 3 (loop)", action);
    const std::string found = ek::thought_closing(static_cast<ek_watch_action>(action), ek::given_text(text, bytes));
    copy_out(found.data(), found.size(), utf8, capacity, size);
    if (static_cast<size_t>(capacity) > found.size()) utf8[found.size()] = '\0';
  });
}
