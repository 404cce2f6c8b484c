/* How much memory this process may still take, and the refusal of what cannot fit. */
#ifndef EDGEKIT_SRC_MEMORY_H
#define EDGEKIT_SRC_MEMORY_H

#include <cstdint>

namespace ek {

/* Bytes a process can take without swapping: MemAvailable, and less where a control group limits it; at least 1. 0
 * where the system does not say. root: where proc and sys are.
 *
 * Sources: proc(5); the kernel's cgroup-v1/memory.rst and cgroup-v2.rst. edgekit/devices/probe.py is the same for plans. */
uint64_t available_memory(const char *root = "/");

/* Throws Error(EK_NO_MEMORY), which names both numbers, when `what` needs more bytes than are available, as far as
 * that is known. Called before an allocation: Linux grants more than there is and ends the process later, when the pages are written. */
void need_memory(uint64_t bytes, const char *what, const char *root = "/");

}  // namespace ek

#endif
