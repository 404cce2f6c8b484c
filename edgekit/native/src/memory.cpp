#include "memory.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "error.h"

namespace ek {
namespace {

constexpr uint64_t kUnknown = UINT64_MAX;

/* No streams here: their locale is another library's where the C++ runtime is linked into a process twice. */

/* Calls take(line) for every line of a file, until it returns false; none where it cannot be read. */
template <typename Take>
void for_each_line(const std::string &path, Take take) {
  std::FILE *file = std::fopen(path.c_str(), "re");
  if (!file) return;
  std::string line;
  bool more = true;
  for (int c = std::fgetc(file); more && c != EOF; c = std::fgetc(file)) {
    if (c != '\n') {
      line += static_cast<char>(c);
      continue;
    }
    more = take(line);
    line.clear();
  }
  if (more && !line.empty()) take(line);
  std::fclose(file);
}

/* The number after `name` at the start of a line; kUnknown where there is none, such as "max". */
uint64_t number_after(const std::string &path, const std::string &name) {
  uint64_t number = kUnknown;
  for_each_line(path, [&](const std::string &line) {
    if (line.compare(0, name.size(), name) != 0) return true;
    const size_t digit = line.find_first_not_of(" \t", name.size());
    if (digit != std::string::npos && line[digit] >= '0' && line[digit] <= '9')
      number = std::strtoull(line.c_str() + digit, nullptr, 10);
    return false;
  });
  return number;
}

/* What one version of control groups calls its files. */
struct Names {
  const char *mount, *limit, *used, *droppable;
};
constexpr Names kVersion2 = {"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "};
constexpr Names kVersion1 = {"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "};

/* What a group's limit leaves; file pages that can be dropped are not in use. */
uint64_t left_in_group(const std::string &folder, const Names &names) {
  const uint64_t limit = number_after(folder + "/" + names.limit, "");
  if (limit == kUnknown) return kUnknown;
  uint64_t used = number_after(folder + "/" + names.used, "");
  uint64_t droppable = number_after(folder + "/memory.stat", names.droppable);
  if (used == kUnknown) used = 0;
  if (droppable == kUnknown) droppable = 0;
  used -= std::min(used, droppable);
  return limit - std::min(limit, used);
}

/* The least that a group and those above it leave. */
uint64_t left_in_groups(const std::string &root, std::string group, const Names &names) {
  uint64_t least = kUnknown;
  for (;;) {
    least = std::min(least, left_in_group(root + names.mount + group, names));
    const size_t slash = group.rfind('/');
    /* In a container the path may be the host's, which is not mounted here: the mount's root is the group then. */
    if (group.empty()) return least;
    group.resize(slash == std::string::npos ? 0 : slash);
  }
}

bool lists_memory(const std::string &controllers) { return ("," + controllers + ",").find(",memory,") != std::string::npos; }

std::string size_text(uint64_t bytes) {
  const bool giga = bytes >= 1000000000;
  char text[32];
  std::snprintf(text, sizeof text, giga ? "%.1f GB" : "%.1f MB", static_cast<double>(bytes) / (giga ? 1e9 : 1e6));
  return text;
}

}  // namespace

uint64_t available_memory(const char *root_folder) {
  const std::string root = std::string(root_folder) + (std::string(root_folder) == "/" ? "" : "/");
  uint64_t least = number_after(root + "proc/meminfo", "MemAvailable:");
  if (least != kUnknown) least *= 1024; /* given in kB, which are KiB */
  for_each_line(root + "proc/self/cgroup", [&](const std::string &line) { /* hierarchy:controllers:path */
    const size_t first = line.find(':'), second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) return true;
    std::string group = line.substr(second + 1);
    if (group == "/" || group.find("..") != std::string::npos) group.clear(); /* the mount's root is all there is to see */
    const bool unified = line.compare(0, first, "0") == 0;
    if (unified || lists_memory(line.substr(first + 1, second - first - 1)))
      least = std::min(least, left_in_groups(root, group, unified ? kVersion2 : kVersion1));
    return true;
  });
  return least == kUnknown ? 0 : std::max<uint64_t>(least, 1);
}

void need_memory(uint64_t bytes, const char *what, const char *root) {
  const uint64_t available = available_memory(root);
  if (available != 0 && bytes > available)
    fail(EK_NO_MEMORY, "%s needs %s; %s are available", what, size_text(bytes).c_str(), size_text(available).c_str());
}

}  // namespace ek
