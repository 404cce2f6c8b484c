#include "topology.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <thread>

#include "cgroup.h"

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace ek {
namespace {

constexpr double kLeastCapacity = 0.6;
#if defined(__aarch64__)
constexpr double kLeastClock = 0.8;
#else
constexpr double kLeastClock = 0.6;
#endif

/* A name for the core of a CPU; each CPU is its own core if the kernel does not report cores (some Arm boards). */
std::string core_of(int cpu, const std::string &folder) {
  const std::string siblings = read_text(folder + "/topology/thread_siblings_list");
  if (!siblings.empty()) return "siblings " + siblings;
  const std::string core = read_text(folder + "/topology/core_id");
  if (!core.empty() && core != "-1") return "core " + read_text(folder + "/topology/physical_package_id") + " " + core;
  return "cpu " + std::to_string(cpu);
}

/* The number in a file; 0 if there is none, or one that no core has. */
double number(const std::string &path) {
  const std::string text = read_text(path);
  const bool valid = !text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == std::string::npos;
  return valid ? std::stod(text) : 0;
}

/* For each CPU, whether it is fast enough. A scale is used only if every CPU has it, because two scales are not comparable. */
std::vector<bool> fast_enough(const std::vector<std::string> &folders) {
  struct Scale {
    const char *file;
    double least;
  };
  for (const Scale scale : {Scale{"/cpu_capacity", kLeastCapacity}, Scale{"/cpufreq/cpuinfo_max_freq", kLeastClock}}) {
    std::vector<double> speeds;
    for (const std::string &folder : folders) speeds.push_back(number(folder + scale.file));
    if (speeds.empty() || *std::min_element(speeds.begin(), speeds.end()) <= 0) continue;
    const double best = *std::max_element(speeds.begin(), speeds.end());
    std::vector<bool> fast;
    for (const double speed : speeds) fast.push_back(speed >= scale.least * best);
    return fast;
  }
  return std::vector<bool>(folders.size(), true);
}

#if defined(__APPLE__)
int sysctl_number(const char *name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? value : 0;
}
#endif

int hardware_threads() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

}  // namespace

Topology read_topology(const std::vector<int> &allowed, const std::string &root) {
  std::vector<std::string> folders;
  for (const int cpu : allowed) folders.push_back(root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu));
  const std::vector<bool> fast = fast_enough(folders);
  std::set<std::string> cores, all_cores;
  Topology found;
  found.cores_reported = !allowed.empty();
  for (size_t i = 0; i < allowed.size(); ++i) {
    const std::string core = core_of(allowed[i], folders[i]);
    found.cores_reported = found.cores_reported && core.compare(0, 4, "cpu ") != 0;
    all_cores.insert(core);
    if (!fast[i]) continue;
    cores.insert(core);
    found.fast_cpus.push_back(allowed[i]);
  }
  if (found.fast_cpus.size() == allowed.size()) found.fast_cpus.clear();
  found.cores = std::max(1, static_cast<int>(cores.size()));
  found.physical_cores = std::max(1, static_cast<int>(all_cores.size()));
  const double quota = cpu_quota(root);
  const auto within_quota = [&](int count) {
    return quota > 0 ? std::max(1, static_cast<int>(std::min<double>(count, std::ceil(quota)))) : count;
  };
  found.threads = within_quota(found.cores);
  found.cpus = within_quota(std::max(1, static_cast<int>(allowed.size())));
  return found;
}

Topology this_topology(const std::string &root) {
#if defined(__linux__)
  cpu_set_t mask;
  std::vector<int> allowed;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &mask)) allowed.push_back(cpu);
  } else { /* the machine has more CPUs than the set */
    for (int cpu = 0; cpu < hardware_threads(); ++cpu) allowed.push_back(cpu);
  }
  return read_topology(allowed, root);
#else
  (void)root;
  Topology found;
#if defined(__APPLE__)
  found.physical_cores = sysctl_number("hw.physicalcpu");
  found.cores_reported = found.physical_cores > 0;
  found.cores = sysctl_number("hw.perflevel0.physicalcpu");
  if (found.cores < 1) found.cores = sysctl_number("hw.physicalcpu");
#else
  found.cores = 0;
#endif
  if (found.cores < 1) found.cores = hardware_threads();
  found.physical_cores = std::max(found.physical_cores, found.cores);
  found.threads = found.cores;
  found.cpus = std::max(found.cores, hardware_threads());
  return found;
#endif
}

int running_threads(int threads) { return std::min(threads, this_topology().cpus); }

std::vector<int> worker_cpus(int threads) {
  Topology found = this_topology();
  if (threads > found.cores) found.fast_cpus.clear();
  return found.fast_cpus;
}

void keep_on(const std::vector<int> &cpus) {
#if defined(__linux__)
  if (cpus.empty()) return;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const int cpu : cpus)
    if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(cpu, &mask);
  (void)sched_setaffinity(0, sizeof mask, &mask); /* 0: the calling thread */
#else
  (void)cpus;
#endif
}

}  // namespace ek
