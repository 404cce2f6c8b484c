#include "memory.h"

#include <cstdio>

#include "cgroup.h"
#include "error.h"

namespace ek {
namespace {

std::string size_text(uint64_t bytes) {
  const bool giga = bytes >= 1000000000;
  char text[32];
  std::snprintf(text, sizeof text, giga ? "%.1f GB" : "%.1f MB", static_cast<double>(bytes) / (giga ? 1e9 : 1e6));
  return text;
}

}  // namespace

void need_memory(uint64_t bytes, const std::string &what, const std::string &root) {
  const int64_t available = available_memory(root);
  if (available >= 0 && bytes > static_cast<uint64_t>(available))
    fail(EK_NO_MEMORY, "%s needs %s; %s are available", what.c_str(), size_text(bytes).c_str(),
         size_text(static_cast<uint64_t>(available)).c_str());
}

}  // namespace ek
