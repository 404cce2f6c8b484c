/* The exception used inside the library. abi.h turns it into a status and a message at the C API. */
#ifndef EDGEKIT_SRC_ERROR_H
#define EDGEKIT_SRC_ERROR_H

#include <cstdarg>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "edgekit.h"

namespace ek {

struct Error : std::runtime_error {
  ek_status status;
  Error(ek_status s, const std::string &message) : std::runtime_error(message), status(s) {}
};

/* Throws an Error with a printf-style message. */
[[noreturn]] __attribute__((format(printf, 2, 3))) inline void fail(ek_status status, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw Error(status, text);
}

}  // namespace ek

#endif
