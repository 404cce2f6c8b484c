#include "cgroup.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

namespace ek {
namespace {

bool is_number(const std::string &text) {
  return !text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == std::string::npos;
}

/* The number behind `key` in lines of "key number" or "Key:  number kB"; -1 when there is none. */
int64_t field(const std::string &text, const std::string &key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name, value;
    words >> name >> value;
    if (name == key && is_number(value)) return std::stoll(value);
  }
  return -1;
}

bool lists(const std::string &controllers, const std::string &controller) {
  return ("," + controllers + ",").find("," + controller + ",") != std::string::npos;
}

}  // namespace

std::string read_text(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const char *blanks = " \t\r\n";
  const size_t first = text.find_first_not_of(blanks), last = text.find_last_not_of(blanks);
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

std::vector<std::string> group_folders(const std::string &root, const std::string &controller) {
  std::vector<std::string> folders;
  std::istringstream lines(read_text(root + "/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) { /* "hierarchy:controllers:/path"; version 2 names no controllers */
    const size_t colon = line.find(':'), second = line.find(':', colon + 1);
    if (colon == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(colon + 1, second - colon - 1);
    if (!controllers.empty() && !lists(controllers, controller)) continue;
    const std::string mount = root + "/sys/fs/cgroup" + (controllers.empty() ? "" : "/" + controller);
    /* In a container the path is the host's and the mount shows only the tail, so the mount's top counts as well. */
    folders.push_back(mount);
    std::string path;
    std::istringstream parts(line.substr(second + 1));
    for (std::string part; std::getline(parts, part, '/');)
      if (!part.empty() && part != "..") folders.push_back(mount + (path += "/" + part));
  }
  return folders;
}

double cpu_quota(const std::string &root) {
  double least = 0;
  for (const std::string &folder : group_folders(root, "cpu")) {
    std::string quota, period;
    std::istringstream limit(read_text(folder + "/cpu.max"));
    if (!(limit >> quota >> period)) {
      quota = read_text(folder + "/cpu.cfs_quota_us");
      period = read_text(folder + "/cpu.cfs_period_us");
    }
    if (!is_number(quota) || !is_number(period)) continue; /* "max", -1, or no such file */
    const double cpus = std::stod(quota) / std::stod(period);
    if (std::stod(period) > 0 && (least == 0 || cpus < least)) least = cpus;
  }
  return least;
}

int64_t available_memory(const std::string &root) {
  const int64_t kib = field(read_text(root + "/proc/meminfo"), "MemAvailable:");
  if (kib < 0) return -1;
  int64_t least = kib * 1024;
  for (const std::string &folder : group_folders(root, "memory")) {
    const bool second = !read_text(folder + "/memory.max").empty();
    const std::string limit = read_text(folder + (second ? "/memory.max" : "/memory.limit_in_bytes"));
    const std::string used = read_text(folder + (second ? "/memory.current" : "/memory.usage_in_bytes"));
    if (!is_number(limit)) continue;
    const int64_t droppable = field(read_text(folder + "/memory.stat"), second ? "inactive_file" : "total_inactive_file");
    const int64_t in_use = std::max<int64_t>((is_number(used) ? std::stoll(used) : 0) - std::max<int64_t>(droppable, 0), 0);
    least = std::min(least, std::max<int64_t>(std::stoll(limit) - in_use, 0));
  }
  return least;
}

}  // namespace ek
