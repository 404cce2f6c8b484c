/* How many threads the arithmetic should use, and on which CPUs.
 *
 * One per physical core: decoding is bound by memory and prefill by the vector units; a second hardware thread on a core
 * shares both, so it only adds waiting. Fewer where the affinity mask or a control group's quota allows fewer.
 *
 * Only the fast cores, where they differ. Every step of a token ends when its slowest thread does, a small in-order core has
 * half the vector width of a big one, and two to four big ones take all the memory's bandwidth already. What is left out:
 *
 *   cores below 60 % of the best one's cpu_capacity. The kernel scales it to speed, clock included:
 *     Snapdragon 8 Gen 3    prime X4 100 %, performance A720 75 to 85, efficiency A520 about 30     prime + performance
 *     RK3588                A76 100 %, A55 40 (52 by its device tree, before the clock)             the A76
 *     Pixel 6               X1 100 %, A76 49, A55 16                                                the X1
 *     Jetson Orin Nano, Pi  all alike                                                               all
 *   without cpu_capacity (x86 before Linux 6.12, old Android kernels), cores below 80 % of the best one's highest clock on
 *     Arm, where the clock hides what a small core does less per cycle (A55 of an RK3588 75 %, A520 69; what is big has 82
 *     and more), and below 60 % elsewhere, where the dense cores do as much per cycle (Zen 5c: 65 %).
 * The percentages of the phones are from memory, of published device trees. */
#ifndef EDGEKIT_SRC_TOPOLOGY_H
#define EDGEKIT_SRC_TOPOLOGY_H

#include <string>
#include <vector>

namespace ek {

struct Topology {
  int threads = 1;            /* at least 1 */
  int cores = 1;              /* physical cores that are fast enough; more than `threads` where a quota limits */
  int physical_cores = 1;     /* physical cores this process may run on, of any speed */
  bool cores_reported = false; /* false: the system does not tell which CPUs share a core, so each counts as one */
  std::vector<int> fast_cpus; /* the CPUs of those cores; empty where no usable core is left out */
};

/* From the kernel's files. allowed: numbers of the CPUs this process may run on; root: holds proc and sys, "" the machine.
 * What the files do not tell is taken to be alike: every CPU a core, every core as fast, no quota. */
Topology read_topology(const std::vector<int> &allowed, const std::string &root);

/* Of this machine: Linux and Android by read_topology, macOS by sysctl (its performance cores), elsewhere the number of
 * hardware threads. Asked anew each time: masks and quotas change. */
Topology this_topology(const std::string &root = "");

/* The CPUs to keep a pool's workers on: fast_cpus, unless there are none or more threads than cores of that kind. */
std::vector<int> worker_cpus(int threads);

/* Keep the calling thread on these CPUs; nothing for an empty list or where the system has no such call. Should the system
 * refuse, because a CPU has gone, the thread runs where it did: slower, not wrong. */
void keep_on(const std::vector<int> &cpus);

}  // namespace ek

#endif
