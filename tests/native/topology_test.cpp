/* Tests the number of threads and the fast CPUs with folders that imitate /proc and /sys of machines. */
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "edgekit_tools.h"
#include "src/thread_pool.h"
#include "src/topology.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace fs = std::filesystem;
using Cpus = std::vector<int>;

/* A temporary folder that contains proc and sys. */
struct Machine {
  fs::path root;
  explicit Machine(const char *name)
      : root(fs::temp_directory_path() / ("edgekit_topology_" + std::to_string(::getpid()) + "_" + name)) {
    fs::remove_all(root);
    fs::create_directories(root);
  }
  ~Machine() { fs::remove_all(root); }
  Machine(const Machine &) = delete;
  Machine &operator=(const Machine &) = delete;

  void put(const std::string &path, const std::string &text) const {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text << "\n";
  }
  void cpu(int number, const std::string &file, const std::string &text) const {
    put("sys/devices/system/cpu/cpu" + std::to_string(number) + "/" + file, text);
  }
  void capacities(const Cpus &values) const {
    for (size_t i = 0; i < values.size(); ++i) cpu(static_cast<int>(i), "cpu_capacity", std::to_string(values[i]));
  }
  ek::Topology seen(const Cpus &allowed) const { return ek::read_topology(allowed, root.string()); }
  int threads(const Cpus &allowed) const { return seen(allowed).threads; }
};

static Cpus first(int count) {
  Cpus cpus;
  for (int i = 0; i < count; ++i) cpus.push_back(i);
  return cpus;
}

static void cores() {
  const Machine shared("shared"); /* two hardware threads per core */
  for (int cpu = 0; cpu < 4; ++cpu)
    shared.cpu(cpu, "topology/thread_siblings_list", std::to_string(cpu % 2) + "," + std::to_string(cpu % 2 + 2));
  CHECK(shared.threads(first(4)) == 2);
  CHECK(shared.seen(first(4)).cpus == 4 && shared.seen({0, 2}).cpus == 2);
  CHECK(shared.threads({0, 2}) == 1);
  CHECK(shared.threads({1}) == 1);
  CHECK(shared.seen(first(4)).fast_cpus.empty());
  CHECK(shared.seen(first(4)).physical_cores == 2 && shared.seen(first(4)).cores_reported);

  const Machine packages("packages"); /* core numbers are the same in each package */
  for (int cpu = 0; cpu < 4; ++cpu) {
    packages.cpu(cpu, "topology/core_id", std::to_string(cpu % 2));
    packages.cpu(cpu, "topology/physical_package_id", std::to_string(cpu / 2));
  }
  CHECK(packages.threads(first(4)) == 4);

  const Machine silent("silent"); /* without /proc and /sys, and with core_id -1 */
  CHECK(silent.threads({0, 1, 2}) == 3);
  CHECK(silent.threads({}) == 1);
  CHECK(silent.seen({0, 1, 2}).physical_cores == 3 && !silent.seen({0, 1, 2}).cores_reported);
  silent.cpu(0, "topology/core_id", "-1");
  CHECK(silent.threads({0, 1, 2}) == 3);
}

/* The same through the C ABI. */
static void c_abi() {
  const Machine machine("abi");
  machine.capacities({300, 300, 1024, 1024});
  for (int cpu = 0; cpu < 4; ++cpu) machine.cpu(cpu, "topology/core_id", std::to_string(cpu));
  machine.put("proc/self/cgroup", "0::/job");
  machine.put("sys/fs/cgroup/job/cpu.max", "100000 100000");
  const int32_t cpus[] = {0, 1, 2, 3};
  ek_core_info cores{};
  CHECK(ek_host_cores(machine.root.c_str(), cpus, 4, &cores) == EK_OK);
  CHECK(cores.physical == 4 && cores.fast == 2 && cores.threads == 1 && cores.is_reported == 1);
  CHECK(ek_host_cores(machine.root.c_str(), cpus, 0, &cores) == EK_BAD_ARGUMENT);
  CHECK(ek_host_cores(nullptr, nullptr, 0, nullptr) == EK_BAD_ARGUMENT);
  CHECK(ek_host_cores(nullptr, nullptr, 0, &cores) == EK_OK);
  CHECK(cores.threads == ek_default_threads() && cores.physical >= cores.fast && cores.fast >= cores.threads);
}

static void fast_cores() {
  const Machine snapdragon("snapdragon"); /* 8 Gen 3: 2 efficiency, 5 performance, 1 prime */
  snapdragon.capacities({300, 300, 790, 790, 790, 850, 850, 1024});
  CHECK(snapdragon.threads(first(8)) == 6);
  CHECK((snapdragon.seen(first(8)).fast_cpus == Cpus{2, 3, 4, 5, 6, 7}));
  CHECK(snapdragon.seen(first(8)).physical_cores == 8 && snapdragon.seen(first(8)).cores == 6);
  CHECK(snapdragon.threads({0, 1}) == 2); /* bound to the small cores */
  CHECK(snapdragon.seen({0, 1}).fast_cpus.empty());
  CHECK((snapdragon.seen({0, 7}).fast_cpus == Cpus{7}));

  const Machine rk3588("rk3588");
  rk3588.capacities({530, 530, 530, 530, 1024, 1024, 1024, 1024});
  CHECK(rk3588.threads(first(8)) == 4);
  CHECK((rk3588.seen(first(8)).fast_cpus == Cpus{4, 5, 6, 7}));

  const Machine orin("orin");
  orin.capacities({1024, 1024, 1024, 1024, 1024, 1024});
  CHECK(orin.threads(first(6)) == 6);
  CHECK(orin.seen(first(6)).fast_cpus.empty());

  const Machine clocks("clocks"); /* no cpu_capacity */
  const char *khz[] = {"1000000", "1000000", "2600000", "3000000"};
  for (int cpu = 0; cpu < 4; ++cpu) clocks.cpu(cpu, "cpufreq/cpuinfo_max_freq", khz[cpu]);
  CHECK((clocks.seen(first(4)).fast_cpus == Cpus{2, 3}));

  const Machine partly("partly"); /* one CPU without the figure: not comparable */
  partly.capacities({300, 1024});
  CHECK(partly.threads(first(3)) == 3);
  CHECK(partly.seen(first(3)).fast_cpus.empty());
  partly.cpu(2, "cpu_capacity", std::string(400, '9')); /* nor is one with a figure that no CPU has */
  CHECK(partly.seen(first(3)).fast_cpus.empty());
}

static void quotas() {
  struct {
    const char *quota;
    int threads;
  } cases[] = {{"max 100000", 8}, {"200000 100000", 2}, {"150000 100000", 2}, {"50000 100000", 1}, {"1 0", 8}, {"", 8}};
  for (const auto &c : cases) {
    const Machine machine("quota");
    machine.put("proc/self/cgroup", "0::/app/job");
    machine.put("sys/fs/cgroup/app/job/cpu.max", c.quota);
    CHECK(machine.threads(first(8)) == c.threads && machine.seen(first(8)).cpus == c.threads);
  }
  const Machine nested("nested");
  nested.put("proc/self/cgroup", "0::/app/job");
  nested.put("sys/fs/cgroup/app/job/cpu.max", "max 100000");
  nested.put("sys/fs/cgroup/app/cpu.max", "300000 100000");
  CHECK(nested.threads(first(8)) == 3);
  nested.put("sys/fs/cgroup/cpu.max", "100000 100000"); /* in a container, where the path is that of the host */
  CHECK(nested.threads(first(8)) == 1);
  CHECK(nested.seen(first(8)).cores == 8);

  const Machine version1("version1");
  version1.put("proc/self/cgroup", "5:memory:/m\n4:cpu,cpuacct:/job");
  version1.put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "400000");
  version1.put("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000");
  CHECK(version1.threads(first(8)) == 4);
  version1.put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1");
  CHECK(version1.threads(first(8)) == 8);
}

/* Workers are bound to the given CPUs; the mask of the caller is unchanged. */
static void pinning() {
#if defined(__linux__)
  const auto mask = [] {
    cpu_set_t set;
    std::set<int> cpus;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
      for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &set)) cpus.insert(cpu);
    return cpus;
  };
  const std::set<int> before = mask();
  const int only = *before.begin();
  ek::ThreadPool pool(2, {only});
  std::vector<std::set<int>> masks(2);
  std::atomic<int> begun{0};
  pool.run(2, [&](int64_t, int thread) {
    ++begun;
    while (begun < 2) std::this_thread::yield(); /* each thread gets one task */
    masks[static_cast<size_t>(thread)] = mask();
  });
  CHECK(masks[0] == before);
  CHECK(masks[1] == std::set<int>{only});
#endif
}

int main() {
  cores();
  c_abi();
  fast_cores();
  quotas();
  pinning();
  CHECK(ek::this_topology().threads >= 1);
  CHECK(ek::this_topology().threads <= ek::this_topology().cores);
  CHECK(ek::worker_cpus(100000).empty());
  CHECK(ek::running_threads(1) == 1 && ek::running_threads(100000) == ek::this_topology().cpus);
  return finish("topology_test");
}
