#include "cgroup.h"

#include <algorithm>
#include <cstdio>

/* This file avoids C++ streams. The library links libstdc++ statically; a second set of locales in the process made another
 * C++ library that was loaded later crash. */
namespace ek {
namespace {

const char *const kBlanks = " \t\r\n";

/* The non-empty pieces of a text between any of the characters in `separators`. */
std::vector<std::string> split(const std::string &text, const char *separators) {
  std::vector<std::string> pieces;
  for (size_t at = 0; (at = text.find_first_not_of(separators, at)) != std::string::npos;) {
    const size_t end = std::min(text.find_first_of(separators, at), text.size());
    pieces.push_back(text.substr(at, end - at));
    at = end;
  }
  return pieces;
}

bool is_number(const std::string &text) {
  return !text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == std::string::npos;
}

bool lists(const std::string &controllers, const std::string &controller) {
  return ("," + controllers + ",").find("," + controller + ",") != std::string::npos;
}

}  // namespace

int64_t field(const std::string &text, const std::string &key) {
  for (const std::string &line : split(text, "\n")) {
    const std::vector<std::string> words = split(line, kBlanks);
    if (words.size() >= 2 && words[0] == key && is_number(words[1])) return std::stoll(words[1]);
  }
  return -1;
}

std::string read_text(const std::string &path) {
  std::string text;
  if (std::FILE *file = std::fopen(path.c_str(), "rb")) {
    char part[4096];
    for (size_t count; (count = std::fread(part, 1, sizeof part, file)) > 0;) text.append(part, count);
    std::fclose(file);
  }
  const size_t first = text.find_first_not_of(kBlanks), last = text.find_last_not_of(kBlanks);
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

std::vector<std::string> group_folders(const std::string &root, const std::string &controller) {
  std::vector<std::string> folders;
  /* Lines are "hierarchy:controllers:/path"; version 2 has no controllers. */
  for (const std::string &line : split(read_text(root + "/proc/self/cgroup"), "\n")) {
    const size_t colon = line.find(':'), second = line.find(':', colon + 1);
    if (colon == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(colon + 1, second - colon - 1);
    if (!controllers.empty() && !lists(controllers, controller)) continue;
    const std::string mount = root + "/sys/fs/cgroup" + (controllers.empty() ? "" : "/" + controller);
    /* In a container the path is that of the host, and the mount may show only its tail, so include the top of the mount. */
    folders.push_back(mount);
    std::string path;
    for (const std::string &part : split(line.substr(second + 1), "/"))
      if (part != "..") folders.push_back(mount + (path += "/" + part));
  }
  return folders;
}

double cpu_quota(const std::string &root) {
  double least = 0;
  for (const std::string &folder : group_folders(root, "cpu")) {
    const std::vector<std::string> both = split(read_text(folder + "/cpu.max"), kBlanks);
    const std::string quota = both.size() == 2 ? both[0] : read_text(folder + "/cpu.cfs_quota_us");
    const std::string period = both.size() == 2 ? both[1] : read_text(folder + "/cpu.cfs_period_us");
    if (!is_number(quota) || !is_number(period)) continue; /* "max", -1, or no such file */
    const double cpus = std::stod(quota) / std::stod(period);
    if (std::stod(period) > 0 && (least == 0 || cpus < least)) least = cpus;
  }
  return least;
}

std::vector<MemoryLimit> memory_limits(const std::string &root) {
  std::vector<MemoryLimit> limits;
  for (const std::string &folder : group_folders(root, "memory")) {
    const bool second = !read_text(folder + "/memory.max").empty();
    const char *file = second ? "memory.max" : "memory.limit_in_bytes";
    const std::string limit = read_text(folder + "/" + file);
    if (!is_number(limit)) continue; /* "max", a number that stands for no limit, or no such file */
    const std::string used = read_text(folder + (second ? "/memory.current" : "/memory.usage_in_bytes"));
    const int64_t droppable = field(read_text(folder + "/memory.stat"), second ? "inactive_file" : "total_inactive_file");
    const int64_t charged = is_number(used) ? std::stoll(used) : 0;
    limits.push_back({std::stoll(limit), std::max<int64_t>(charged - std::max<int64_t>(droppable, 0), 0), file});
  }
  return limits;
}

}  // namespace ek
