/* The handle of the C API for text, and what its files share. */
#ifndef EDGEKIT_TEXT_TEXT_HANDLE_H
#define EDGEKIT_TEXT_TEXT_HANDLE_H

#include <memory>
#include <string_view>

#include "edgekit_text.h"
#include "tables.h"

struct ek_text {
  std::shared_ptr<const ek::Tables> tables;
};

namespace ek {

/* A text that the caller gave with its length or -1. Throws Error(EK_BAD_ARGUMENT). */
std::string_view given_text(const char *utf8, int64_t bytes);

}  // namespace ek

#endif
