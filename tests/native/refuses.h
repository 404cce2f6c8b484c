/* Errors of the C API. */
#ifndef EDGEKIT_TESTS_REFUSES_H
#define EDGEKIT_TESTS_REFUSES_H

#include <cstdio>
#include <string>

#include "edgekit.h"

namespace {

/* Whether a call had this status, and a message with these words. */
[[maybe_unused]] bool refuses(int status, int expected, const char *words) {
  if (status == expected && std::string(ek_last_error()).find(words) != std::string::npos) return true;
  std::printf("  found: %d, %s\n", status, ek_last_error());
  return false;
}

}  // namespace

#endif  // EDGEKIT_TESTS_REFUSES_H
