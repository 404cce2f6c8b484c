/* The exception used inside the library. abi.h turns it into a status and a message at the C API. */
#ifndef EDGEKIT_SRC_ERROR_H
#define EDGEKIT_SRC_ERROR_H

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

#include "edgekit.h"

namespace ek {

struct Error : std::runtime_error {
  ek_status status;
  Error(ek_status s, const std::string &message) : std::runtime_error(message), status(s) {}
};

/* How many bytes of a text to show: at most `most`, and none of a character that does not fit. */
inline int shown_bytes(const char *text, size_t most) {
  size_t size = strnlen(text, most + 1);
  if (size > most) /* a character has up to 4 bytes */
    for (size = most; size + 3 > most && size > 0 && (text[size] & 0xC0) == 0x80;) --size;
  return static_cast<int>(size);
}

/* Throws an Error with a printf-style message, which is cut if it is very long. */
[[noreturn]] __attribute__((format(printf, 2, 3))) inline void fail(ek_status status, const char *format, ...) {
  constexpr size_t kMost = 511;
  char text[kMost + 2];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  text[shown_bytes(text, kMost)] = '\0';
  throw Error(status, text);
}

}  // namespace ek

#endif
