/* The refusal of what cannot fit into the memory that is left. */
#ifndef EDGEKIT_SRC_MEMORY_H
#define EDGEKIT_SRC_MEMORY_H

#include <cstdint>
#include <string>

namespace ek {

/* Throws Error(EK_NO_MEMORY), which names both numbers, when `what` needs more bytes than are available, as far as that is
 * known. Called before an allocation: Linux grants more than there is and ends the process later, when the pages are written.
 * root: as in cgroup.h. */
void need_memory(uint64_t bytes, const std::string &what, const std::string &root = "");

}  // namespace ek

#endif
