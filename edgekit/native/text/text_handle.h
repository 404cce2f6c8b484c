/* The handles of the C API for text, and what its files share. */
#ifndef EDGEKIT_TEXT_TEXT_HANDLE_H
#define EDGEKIT_TEXT_TEXT_HANDLE_H

#include <cinttypes>
#include <cstring>
#include <string>
#include <string_view>

#include "../src/error.h"
#include "../src/handle.h"
#include "edgekit_text.h"
#include "stream.h"
#include "tables.h"
#include "watch.h"

namespace ek {

struct StreamObject {
  TextStream stream;
  std::string piece; /* what the last call returned */
};

}  // namespace ek

struct ek_text : ek::HandleOf<const ek::Tables, ek::Kind::kText> {};
struct ek_stream : ek::HandleOf<ek::StreamObject, ek::Kind::kStream> {};
struct ek_watch : ek::HandleOf<ek::Watch, ek::Kind::kWatch> {};

namespace ek {

/* A text that the caller gave with its length or -1. Throws Error(EK_BAD_ARGUMENT). */
inline std::string_view given_text(const char *utf8, int64_t bytes) {
  if (!utf8 && bytes) fail(EK_BAD_ARGUMENT, "a text must not be NULL");
  if (bytes < -1) fail(EK_BAD_ARGUMENT, "a text of %" PRId64 " bytes was given; allowed: 0 or more, or -1", bytes);
  return {utf8, bytes < 0 ? std::strlen(utf8) : static_cast<size_t>(bytes)};
}

}  // namespace ek

#endif
