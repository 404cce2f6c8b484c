/* How much memory this process can use, and the check made before a large allocation. */
#ifndef EDGEKIT_SRC_MEMORY_H
#define EDGEKIT_SRC_MEMORY_H

#include <cstdint>
#include <optional>
#include <string>

namespace ek {

/* The memory this process can use: the host's, or less where a control group limits it. */
struct HostMemory {
  int64_t total = 0;     /* bytes */
  int64_t available = 0; /* bytes that can be allocated before the kernel swaps or kills; at most `total`, at least 0 */
  std::string total_source, available_source; /* what each figure was read from */
};

/* Read from the files below `root` (it contains proc and sys; "" is this machine), on macOS from the kernel. Empty if the
 * system does not report both figures. */
std::optional<HostMemory> host_memory(const std::string &root = "");

/* HostMemory.available; -1 if it is unknown. */
int64_t available_memory(const std::string &root = "");

/* Throws Error(EK_NO_MEMORY), naming both sizes, if `what` needs more bytes than are available. Passes if the available
 * memory is unknown. Call it before a large allocation: Linux grants more memory than it has and kills the process later,
 * when the pages are written. */
void need_memory(uint64_t bytes, const std::string &what, const std::string &root = "");

}  // namespace ek

#endif
