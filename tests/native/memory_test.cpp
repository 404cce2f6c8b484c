/* Tests the available memory with folders that imitate /proc and /sys/fs/cgroup. */
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "check.h"
#include "edgekit_tools.h"
#include "src/error.h"
#include "src/memory.h"

namespace {

namespace fs = std::filesystem;

/* A temporary root folder. */
struct Root {
  fs::path path;
  Root() {
    char name[] = "/tmp/edgekit-memory-test-XXXXXX";
    path = mkdtemp(name);
  }
  ~Root() { fs::remove_all(path); }
  Root(const Root &) = delete;
  Root &operator=(const Root &) = delete;

  void write(const std::string &file, const std::string &text) const {
    fs::create_directories((path / file).parent_path());
    std::ofstream(path / file) << text;
  }
  int64_t available() const { return ek::available_memory(path.string()); }
};

const char *kMeminfo = "MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    8000000 kB\n";
constexpr int64_t kMemAvailable = 8000000ll * 1024;

void system_alone() {
  const Root root;
  CHECK(root.available() == -1); /* unknown */
  root.write("proc/meminfo", kMeminfo);
  CHECK(root.available() == kMemAvailable);
  root.write("proc/meminfo", "MemTotal:       16000000 kB\n");
  CHECK(root.available() == -1);
}

void version2() {
  const Root root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "0::/outer/inner\n");
  root.write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  CHECK(root.available() == kMemAvailable);
  root.write("sys/fs/cgroup/outer/memory.max", "3000000000\n"); /* the group above */
  CHECK(root.available() == 3000000000);
  root.write("sys/fs/cgroup/outer/memory.current", "1000000000\n");
  root.write("sys/fs/cgroup/outer/memory.stat", "anon 5\nactive_file 7\ninactive_file 400000000\n");
  CHECK(root.available() == 2400000000);
  root.write("sys/fs/cgroup/memory.max", "1000\n"); /* the mount's own */
  CHECK(root.available() == 1000);
  root.write("sys/fs/cgroup/memory.current", "2000\n");
  CHECK(root.available() == 0); /* none, as opposed to unknown */
  root.write("proc/self/cgroup", "0::/../elsewhere\n"); /* not mounted here */
  root.write("sys/fs/cgroup/memory.current", "400\n");
  CHECK(root.available() == 600);
}

void version1() {
  const Root root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "12:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/abc\n0::/\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* no limit; the path is the host's */
  root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "500\n");
  CHECK(root.available() == kMemAvailable);
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n");
  root.write("sys/fs/cgroup/memory/memory.stat", "inactive_file 3\ntotal_inactive_file 100\n");
  CHECK(root.available() == 2000000 - 400);
  root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "2600000\n"); /* more than the limit */
  CHECK(root.available() == 0);
}

/* Both figures, and what each was read from. */
void sources() {
  const Root root;
  CHECK(!ek::host_memory(root.path.string()));
  root.write("proc/meminfo", "MemTotal: 16000000 kB\n");
  CHECK(!ek::host_memory(root.path.string()));
  root.write("proc/meminfo", kMeminfo);
  ek::HostMemory memory = *ek::host_memory(root.path.string());
  CHECK(memory.total == 16000000ll * 1024 && memory.available == kMemAvailable);
  CHECK(memory.total_source == "/proc/meminfo, MemTotal" && memory.available_source == "/proc/meminfo, MemAvailable");
  root.write("proc/self/cgroup", "0::/\n");
  root.write("sys/fs/cgroup/memory.max", "14000000000\n"); /* above what the host has left */
  memory = *ek::host_memory(root.path.string());
  CHECK(memory.total == 14000000000 && memory.total_source == "control group, memory.max");
  CHECK(memory.available == kMemAvailable && memory.available_source == "/proc/meminfo, MemAvailable");
  root.write("sys/fs/cgroup/memory.current", "9000000000\n");
  memory = *ek::host_memory(root.path.string());
  CHECK(memory.available == 5000000000 && memory.available_source == "control group, memory.max less the memory in use");
}

/* The same through the C ABI. */
void c_abi() {
  const Root root;
  ek_memory_info memory{};
  CHECK(ek_host_memory(root.path.c_str(), &memory) == EK_UNSUPPORTED);
  CHECK(std::string(ek_last_error()).find("MemAvailable") != std::string::npos);
  CHECK(ek_host_memory(nullptr, nullptr) == EK_BAD_ARGUMENT);
  root.write("proc/meminfo", kMeminfo);
  CHECK(ek_host_memory(root.path.c_str(), &memory) == EK_OK);
  CHECK(memory.total_bytes == 16000000ull * 1024 && memory.available_bytes == static_cast<uint64_t>(kMemAvailable));
  CHECK(std::string(memory.total_source) == "/proc/meminfo, MemTotal");
  CHECK(std::string(memory.available_source) == "/proc/meminfo, MemAvailable");
  CHECK(ek_host_memory(nullptr, &memory) == EK_OK); /* this host */
  CHECK(memory.available_bytes > 0 && memory.available_bytes <= memory.total_bytes);
}

std::string refused(uint64_t bytes, const Root &root) {
  try {
    ek::need_memory(bytes, "the KV cache of 131072 positions", root.path.string());
    return "";
  } catch (const ek::Error &error) {
    CHECK(error.status == EK_NO_MEMORY);
    return error.what();
  }
}

void need() {
  const Root root;
  CHECK(refused(UINT64_MAX, root).empty()); /* unknown, so the allocation decides */
  root.write("proc/meminfo", "MemTotal: 4000000 kB\nMemAvailable:    3125000 kB\n");
  CHECK(refused(3200000000, root).empty());
  CHECK(refused(7516192768, root) == "the KV cache of 131072 positions needs 7.5 GB of memory; 3.2 GB are available");
  root.write("proc/meminfo", "MemTotal: 4000000 kB\nMemAvailable:    1000 kB\n");
  CHECK(refused(1024001, root) == "the KV cache of 131072 positions needs 1.0 MB of memory; 1.0 MB are available");
}

}  // namespace

int main() {
  system_alone();
  version2();
  version1();
  sources();
  c_abi();
  need();
  CHECK(ek::available_memory("") == -1 || ek::available_memory("") > 1000000); /* of this host */
  return finish("memory_test");
}
