/* Tests the reader of control groups with a folder that imitates /proc and /sys/fs/cgroup. */
#include "src/cgroup.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "check.h"

namespace fs = std::filesystem;

int main() {
  char name[] = "/tmp/edgekit-cgroup-test-XXXXXX";
  const fs::path root = mkdtemp(name);
  const auto write = [&](const std::string &file, const std::string &text) {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text;
  };
  const std::string at = root.string(), mount = at + "/sys/fs/cgroup";
  CHECK(ek::read_text(at + "/none").empty());
  write("text", " \n two words \n\n");
  CHECK(ek::read_text(at + "/text") == "two words");
  CHECK(ek::field("a 1\nKey:  20 kB\nkey x\n", "Key:") == 20);
  CHECK(ek::field("a 1\n", "b") == -1 && ek::field("key x\n", "key") == -1);

  CHECK(ek::group_folders(at, "memory").empty() && ek::cpu_quota(at) == 0 && ek::memory_limits(at).empty());
  write("proc/self/cgroup", "7:cpu,cpuacct:/job\n6:hugetlb:/x\n0::/outer/../inner\nnot a line\n");
  CHECK((ek::group_folders(at, "cpu") == std::vector<std::string>{mount + "/cpu", mount + "/cpu/job", mount, mount + "/outer", mount + "/outer/inner"}));
  CHECK((ek::group_folders(at, "memory") == std::vector<std::string>{mount, mount + "/outer", mount + "/outer/inner"}));

  write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "250000");
  write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000");
  CHECK(ek::cpu_quota(at) == 2.5);
  write("sys/fs/cgroup/outer/cpu.max", "150000 100000");
  CHECK(ek::cpu_quota(at) == 1.5);
  write("sys/fs/cgroup/outer/cpu.max", "max 100000");
  CHECK(ek::cpu_quota(at) == 2.5);

  write("sys/fs/cgroup/memory.max", "max");
  write("sys/fs/cgroup/outer/memory.max", "5000");
  write("sys/fs/cgroup/outer/inner/memory.max", "3000");
  write("sys/fs/cgroup/outer/inner/memory.current", "1000");
  write("sys/fs/cgroup/outer/inner/memory.stat", "inactive_file 400\n");
  const std::vector<ek::MemoryLimit> limits = ek::memory_limits(at);
  CHECK(limits.size() == 2);
  CHECK(limits[0].bytes == 5000 && limits[0].in_use == 0 && std::string(limits[0].file) == "memory.max");
  CHECK(limits[1].bytes == 3000 && limits[1].in_use == 600);
  fs::remove_all(root);
  return finish("cgroup_test");
}
