#include "host.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "edgekit_tools.h"

namespace run {
namespace {

/* The whole text of a small file without the line end; "" if it cannot be read. */
std::string read(const std::string &path) {
  std::string text;
  if (FILE *file = std::fopen(path.c_str(), "rb")) {
    char buffer[4096];
    while (const size_t count = std::fread(buffer, 1, sizeof buffer, file)) text.append(buffer, count);
    std::fclose(file);
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0' || text.back() == ' ')) text.pop_back();
  return text;
}

/* The value of the first line "name : value" with one of these names. */
std::string value_of(const std::string &text, std::initializer_list<const char *> names) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size()), colon = text.find(':', at);
    for (const char *name : names) {
      const size_t length = std::strlen(name);
      if (colon < end && text.compare(at, length, name) == 0 && text.find_first_not_of(" \t", at + length) == colon) {
        const size_t value = text.find_first_not_of(" \t", colon + 1);
        return value < end ? text.substr(value, end - value) : "";
      }
    }
    at = end + 1;
  }
  return "";
}

Json kib_of(const char *path, const char *name) {
  const std::string value = value_of(read(path), {name});
  if (value.empty()) return {};
  return static_cast<double>(std::strtoll(value.c_str(), nullptr, 10)) * 1024;
}

Json text_or_null(const std::string &text) { return text.empty() ? Json() : Json(text); }

Json number_or_null(const std::string &path, double scale) {
  const std::string text = read(path);
  char *end;
  const double value = std::strtod(text.c_str(), &end);
  return end == text.c_str() ? Json() : Json(value * scale);
}

/* The folders in a folder whose names begin with `prefix`, sorted. */
std::vector<std::string> folders(const std::string &folder, const char *prefix) {
  std::vector<std::string> found;
  if (DIR *listing = ::opendir(folder.c_str())) {
    while (const dirent *entry = ::readdir(listing))
      if (std::strncmp(entry->d_name, prefix, std::strlen(prefix)) == 0) found.push_back(folder + "/" + entry->d_name);
    ::closedir(listing);
  }
  std::sort(found.begin(), found.end());
  return found;
}

/* Current and highest clock of each policy: cores of one kind. */
Json clocks() {
  std::vector<Json> found;
  for (const std::string &policy : folders("/sys/devices/system/cpu/cpufreq", "policy"))
    found.push_back(Json::Fields{{"cpus", text_or_null(read(policy + "/affected_cpus"))},
                                 {"mhz", number_or_null(policy + "/scaling_cur_freq", 1e-3)},
                                 {"max_mhz", number_or_null(policy + "/cpuinfo_max_freq", 1e-3)},
                                 {"governor", text_or_null(read(policy + "/scaling_governor"))}});
  return found;
}

Json temperatures() {
  std::vector<Json> found;
  for (const std::string &zone : folders("/sys/class/thermal", "thermal_zone")) {
    const Json celsius = number_or_null(zone + "/temp", 1e-3);
    if (!celsius.is_null()) found.push_back(Json::Fields{{"name", text_or_null(read(zone + "/type"))}, {"celsius", celsius}});
  }
  return found;
}

/* The extensions that matter to a matrix product, as ISA_FLAGS in edgekit/host.py lists them, that the processor has. */
Json extensions(const std::string &cpuinfo) {
  const std::string flags = " " + value_of(cpuinfo, {"flags", "Features"}) + " ";
  std::vector<Json> found;
  for (const char *name : {"avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
                           "amx_tile", "amx_int8", "amx_bf16", "asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"})
    if (flags.find(" " + std::string(name) + " ") != std::string::npos) found.push_back(name);
  return found;
}

/* The power mode of a Jetson (nvpmodel). The status file has a line such as "pmode:0002". */
Json power_mode() {
  const std::string status = read("/var/lib/nvpmodel/status"), modes = read("/etc/nvpmodel.conf");
  const size_t colon = status.find(':');
  if (colon == std::string::npos) return {};
  const std::string number = std::to_string(std::strtol(status.c_str() + colon + 1, nullptr, 10));
  const size_t at = modes.find("POWER_MODEL ID=" + number + " NAME=");
  if (at == std::string::npos) return number;
  const size_t name = modes.find("NAME=", at) + 5;
  return modes.substr(name, modes.find_first_of(" >", name) - name);
}

}  // namespace

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Json peak_rss_bytes() {
  Json peak = kib_of("/proc/self/status", "VmHWM");
  rusage usage;
  if (!peak.is_null() || ::getrusage(RUSAGE_SELF, &usage) != 0) return peak;
#if defined(__APPLE__)
  return static_cast<int64_t>(usage.ru_maxrss);
#else
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
#endif
}

Json private_bytes() {
  const Json anonymous = kib_of("/proc/self/smaps_rollup", "Anonymous"), swap = kib_of("/proc/self/smaps_rollup", "Swap");
  return anonymous.is_null() ? anonymous : Json(anonymous.number() + swap.number());
}

Json describe_host() {
  utsname system;
  const bool known = ::uname(&system) == 0;
  ek_memory_info memory;
  const bool measured = ek_host_memory(nullptr, &memory) == EK_OK;
  ek_core_info cores;
  const bool counted = ek_host_cores(nullptr, nullptr, 0, &cores) == EK_OK;
  const std::string cpuinfo = read("/proc/cpuinfo");
  const std::string model = value_of(cpuinfo, {"model name", "Model", "Hardware"});
  return Json::Fields{
      {"system", known ? Json(std::string(system.sysname) + " " + system.release) : Json()},
      {"machine", known ? Json(system.machine) : Json()},
      {"board", text_or_null(read("/proc/device-tree/model"))},
      {"processor", model.empty() && known ? Json(system.machine) : text_or_null(model)},
      {"isa", extensions(cpuinfo)},
      {"cores", counted ? Json(static_cast<int64_t>(cores.threads)) : Json()},
      {"memory_bytes", measured ? Json(static_cast<double>(memory.total_bytes)) : Json()},
      {"available_bytes", measured ? Json(static_cast<double>(memory.available_bytes)) : Json()},
      {"clocks", clocks()},
      {"temperatures", temperatures()},
      {"power_mode", power_mode()},
  };
}

}  // namespace run
