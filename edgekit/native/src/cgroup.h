/* Control groups: what a container, or a service's unit, lets this process have of the machine. */
#ifndef EDGEKIT_SRC_CGROUP_H
#define EDGEKIT_SRC_CGROUP_H

#include <cstdint>
#include <string>
#include <vector>

namespace ek {

/* A small file of the kernel's without the blanks around it; "" when it cannot be read. */
std::string read_text(const std::string &path);

/* The folders whose limits of `controller` ("cpu", "memory") bind this process: its own group and those above it, of both
 * versions. `root` holds proc and sys: "" is the machine.
 * Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1. */
std::vector<std::string> group_folders(const std::string &root, const std::string &controller);

/* CPUs the groups grant (1.5 is one and a half), the least of them all; 0: no limit. */
double cpu_quota(const std::string &root);

/* Bytes this process can still have before something is pushed out: the system's MemAvailable, and what each group with a
 * limit has left, file pages that can be dropped counted as free. -1 where the system does not say (no /proc). */
int64_t available_memory(const std::string &root);

}  // namespace ek

#endif
