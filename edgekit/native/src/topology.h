/* Decides how many threads the engine uses, and on which CPUs.
 *
 * One thread per physical core: decode is limited by memory and prefill by the vector units, and two hardware threads of a
 * core share both. Fewer if the affinity mask or the CPU quota of a control group allows fewer.
 *
 * Where cores differ, only the fast ones are used. Every step of a token waits for the slowest thread, a small in-order core
 * has half the vector width of a big one, and two to four big cores use the full memory bandwidth. Cores are left out if
 *
 *   their cpu_capacity is below 60 % of the best. The kernel scales it to speed, clock included:
 *     Snapdragon 8 Gen 3    prime X4 100 %, performance A720 75 to 85, efficiency A520 about 30     prime + performance
 *     RK3588                A76 100 %, A55 40 (52 by its device tree, before the clock)             the A76
 *     Pixel 6               X1 100 %, A76 49, A55 16                                                the X1
 *     Jetson Orin Nano, Pi  all equal                                                               all
 *
 *   there is no cpu_capacity (x86 before Linux 6.12, old Android kernels), and their highest clock is below a share of the
 *     best: 80 % on Arm, where a small core also does less per cycle (A55 of an RK3588 75 %, A520 69 %, big cores at least
 *     82 %); 60 % elsewhere, where dense cores do as much per cycle (Zen 5c: 65 %).
 *
 * The percentages of phones were recalled from published device trees, not looked up. */
#ifndef EDGEKIT_SRC_TOPOLOGY_H
#define EDGEKIT_SRC_TOPOLOGY_H

#include <string>
#include <vector>

namespace ek {

struct Topology {
  int threads = 1;             /* at least 1 */
  int cpus = 1;                /* threads that can run at once: the CPUs of this process, or fewer by a quota; at least 1 */
  int cores = 1;               /* physical cores that are fast enough; a quota can make `threads` smaller */
  int physical_cores = 1;      /* physical cores that this process may run on, slow ones included */
  bool cores_reported = false; /* false: the system does not report which CPUs share a core; each CPU counts as a core */
  std::vector<int> fast_cpus;  /* the CPUs of the fast cores; empty if no core is left out */
};

/* Read the topology from files of the kernel. allowed: numbers of the CPUs this process may run on. root: contains proc and
 * sys; "" is this machine. Defaults for missing files: every CPU is a core, all cores are equally fast, no quota. */
Topology read_topology(const std::vector<int> &allowed, const std::string &root);

/* The topology of this machine: from read_topology on Linux and Android, from sysctl on macOS (performance cores), elsewhere
 * from the number of hardware threads. Read anew by each call, because masks and quotas change. */
Topology this_topology(const std::string &root = "");

/* How many of `threads` threads can run at once. More would only wait for each other. */
int running_threads(int threads);

/* The CPUs to bind the workers of a pool to: fast_cpus, or none if there are more threads than fast cores. */
std::vector<int> worker_cpus(int threads);

/* Bind the calling thread to these CPUs. Does nothing for an empty list, on systems without such a call, or if the call fails
 * (a CPU went offline): the thread then runs anywhere. */
void keep_on(const std::vector<int> &cpus);

}  // namespace ek

#endif
