#include "memory.h"

#include <algorithm>
#include <cstdio>

#include "cgroup.h"
#include "error.h"

#if defined(__APPLE__)
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif

namespace ek {
namespace {

std::string size_text(uint64_t bytes) {
  const bool giga = bytes >= 1000000000;
  char text[32];
  std::snprintf(text, sizeof text, giga ? "%.1f GB" : "%.1f MB", static_cast<double>(bytes) / (giga ? 1e9 : 1e6));
  return text;
}

#if defined(__APPLE__)
/* Free and inactive pages: the kernel reuses inactive pages without swapping. */
std::optional<HostMemory> mach_memory() {
  uint64_t total = 0;
  size_t size = sizeof total;
  vm_statistics64_data_t pages;
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  if (sysctlbyname("hw.memsize", &total, &size, nullptr, 0) != 0 ||
      host_statistics64(mach_host_self(), HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&pages), &count) != KERN_SUCCESS)
    return std::nullopt;
  const uint64_t available = (uint64_t{pages.free_count} + pages.inactive_count) * vm_kernel_page_size;
  return HostMemory{static_cast<int64_t>(total), static_cast<int64_t>(std::min(available, total)), "sysctl, hw.memsize",
                    "host_statistics64, free and inactive pages"};
}
#endif

}  // namespace

std::optional<HostMemory> host_memory(const std::string &root) {
#if defined(__APPLE__)
  if (root.empty()) return mach_memory();
#endif
  const std::string meminfo = read_text(root + "/proc/meminfo");
  const int64_t total_kib = field(meminfo, "MemTotal:"), available_kib = field(meminfo, "MemAvailable:");
  if (total_kib < 0 || available_kib < 0) return std::nullopt;
  HostMemory memory{total_kib * 1024, available_kib * 1024, "/proc/meminfo, MemTotal", "/proc/meminfo, MemAvailable"};
  for (const MemoryLimit &limit : memory_limits(root)) {
    const std::string source = std::string("control group, ") + limit.file;
    if (limit.bytes < memory.total) {
      memory.total = limit.bytes;
      memory.total_source = source;
    }
    if (limit.bytes - limit.in_use < memory.available) {
      memory.available = std::max<int64_t>(limit.bytes - limit.in_use, 0);
      memory.available_source = source + " less the memory in use";
    }
  }
  return memory;
}

int64_t available_memory(const std::string &root) {
  const std::optional<HostMemory> memory = host_memory(root);
  return memory ? memory->available : -1;
}

void need_memory(uint64_t bytes, const std::string &what, const std::string &root) {
  const int64_t available = available_memory(root);
  if (available >= 0 && bytes > static_cast<uint64_t>(available))
    fail(EK_NO_MEMORY, "%s needs %s of memory; %s are available", what.c_str(), size_text(bytes).c_str(),
         size_text(static_cast<uint64_t>(available)).c_str());
}

}  // namespace ek
