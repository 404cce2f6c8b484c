/* Implements include/edgekit_text.h, the C API for text, except for answers. No exception leaves this file. */
#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "../src/abi.h"
#include "edgekit_tools.h"
#include "text_handle.h"
#include "tokenizer.h"

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

}  // namespace

std::string_view ek::given_text(const char *utf8, int64_t bytes) {
  need(utf8 || !bytes, "a text must not be NULL");
  if (bytes < -1) fail(EK_BAD_ARGUMENT, "a text of %" PRId64 " bytes was given; allowed: 0 or more, or -1", bytes);
  return {utf8, bytes < 0 ? std::strlen(utf8) : static_cast<size_t>(bytes)};
}

int ek_text_open(const char *folder, ek_text **text) {
  return guarded([&] {
    need(folder && text, "ek_text_open: folder and text must not be NULL");
    *text = new ek_text{std::make_shared<const ek::Tables>(folder)};
  });
}

void ek_text_close(ek_text *text) { delete text; }

int ek_text_describe(const ek_text *text, ek_text_info *info) {
  return guarded([&] {
    need(text && info, "ek_text_describe: text and info must not be NULL");
    const ek::Tables &tables = *text->tables;
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
  if (!text || index < 0 || static_cast<size_t>(index) >= text->tables->stop_ids.size()) return -1;
  return text->tables->stop_ids[static_cast<size_t>(index)];
}

int32_t ek_text_token_id(const ek_text *text, const char *token) {
  return text && token ? ek::added_token_id(*text->tables, token) : -1;
}

int ek_text_encode(const ek_text *text, const char *utf8, int64_t bytes, int flags, int32_t *ids, int64_t capacity, int64_t *count) {
  return guarded([&] {
    need(text && count, "ek_text_encode: text and count must not be NULL");
    constexpr int kAll = EK_ENCODE_PLAIN | EK_ENCODE_BOS | EK_ENCODE_NO_BOS, kBoth = EK_ENCODE_BOS | EK_ENCODE_NO_BOS;
    if (flags & ~kAll || (flags & kBoth) == kBoth)
      fail(EK_BAD_ARGUMENT, "ek_text_encode: the flags %d are not a sum of ek_encode_flags that go together", flags);
    const ek::Tables &tables = *text->tables;
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
    const std::string found = ek::decode(*text->tables, ids, count);
    copy_out(found.data(), found.size(), utf8, capacity, bytes);
    if (static_cast<size_t>(capacity) > found.size()) utf8[found.size()] = '\0';
  });
}

int ek_text_words(const ek_text *text, const char *utf8, int64_t bytes, char *normalized, int64_t capacity, int64_t *size,
                  int64_t *ends, int64_t most, int64_t *count) {
  return guarded([&] {
    need(text && size && count, "ek_text_words: text, size and count must not be NULL");
    ek::WordEnds found;
    ek::Encoder(*text->tables).words(ek::given_text(utf8, bytes), found);
    copy_out(found.normalized.data(), found.normalized.size(), normalized, capacity, size);
    copy_out(found.ends.data(), found.ends.size(), ends, most, count);
  });
}

int ek_text_prompt(const ek_text *, const ek_message *, int64_t, int32_t *, int64_t, int64_t *) { return guarded([] { fail(EK_UNSUPPORTED, "ek_text_prompt is not available in this build"); }); }
int ek_stream_create(const ek_text *, ek_stream **) { return guarded([] { fail(EK_UNSUPPORTED, "ek_stream_create is not available in this build"); }); }
void ek_stream_free(ek_stream *) {}
int ek_stream_push(ek_stream *, int32_t, const char **, int64_t *) { return guarded([] { fail(EK_UNSUPPORTED, "ek_stream_push is not available in this build"); }); }
int ek_stream_finish(ek_stream *, const char **, int64_t *) { return guarded([] { fail(EK_UNSUPPORTED, "ek_stream_finish is not available in this build"); }); }
int ek_generate(ek_session *, const ek_text *, const ek_request *, ek_on_event, void *) { return guarded([] { fail(EK_UNSUPPORTED, "ek_generate is not available in this build"); }); }

void ek_session_cancel(ek_session *session) {
  if (session) session->cancelled = true;
}
