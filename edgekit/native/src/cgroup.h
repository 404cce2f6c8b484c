/* Control groups: the CPU time and the memory that a container or a service unit grants this process. */
#ifndef EDGEKIT_SRC_CGROUP_H
#define EDGEKIT_SRC_CGROUP_H

#include <cstdint>
#include <string>
#include <vector>

namespace ek {

/* A small file of /proc or /sys without the surrounding whitespace; "" if it cannot be read. */
std::string read_text(const std::string &path);

/* The number after `key` in lines of the form "key number" or "Key:  number kB"; -1 if there is no such line. */
int64_t field(const std::string &text, const std::string &key);

/* The folders whose limits of `controller` ("cpu" or "memory") bind this process: its own group and every group above it,
 * of both control group versions, outermost first. `root` contains proc and sys; "" is this machine.
 * Source: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1 in the Linux kernel. */
std::vector<std::string> group_folders(const std::string &root, const std::string &controller);

/* CPUs granted by the groups, the smallest quota of all (1.5 is one and a half CPUs); 0 if there is no quota. */
double cpu_quota(const std::string &root);

/* The memory limit of one group. */
struct MemoryLimit {
  int64_t bytes;
  int64_t in_use;   /* bytes charged to the group, less file pages that the kernel can drop */
  const char *file; /* the name of the limit's file: memory.max (version 2) or memory.limit_in_bytes (version 1) */
};

/* Every memory limit that binds this process, outermost group first. */
std::vector<MemoryLimit> memory_limits(const std::string &root);

}  // namespace ek

#endif
