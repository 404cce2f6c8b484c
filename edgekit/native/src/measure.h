/* What this machine can do at most: bytes per second out of main memory, multiply-adds per second in registers. A model's
 * figures are told as shares of these.
 *
 * Both are the best of several windows of 50 ms in which all threads work at once. Other programs, interrupts and a clock
 * that has not risen yet only ever take away from what a machine can do, so the best window is the nearest to it; it is no
 * promise for an hour of work on a phone that grows hot. */
#ifndef EDGEKIT_SRC_MEASURE_H
#define EDGEKIT_SRC_MEASURE_H

#include <cstdint>
#include <string>

#include "../kernels/kernels.h"

namespace ek {

constexpr int kMostThreads = 1024;

/* The buffer measure_bandwidth takes by itself: 256 MiB or eight times the last-level cache, whichever is more, so that at
 * most an eighth of what is read again can still lie in the cache; but no more than a quarter of the memory available, and
 * never less than four caches or 64 MiB. Throws Error(EK_NO_MEMORY) where these contradict. `root`: as in topology.h. */
int64_t bandwidth_buffer(const std::string &root);

/* Sequential reading of main memory: bytes per second of `threads` threads, each on its own part of the buffer, which it
 * touched first. bytes: the buffer's size, at least a page for each thread; 0: bandwidth_buffer. Throws Error. */
double measure_bandwidth(int threads, int64_t bytes);

/* The innermost instructions of prefill on registers alone: multiply-adds per second of `threads` threads. Throws Error. */
double measure_kernel(const Kernels &kernels, int threads);

/* The table of that name that runs here. Throws Error: EK_BAD_ARGUMENT for a name this build does not have (it names those
 * it has), EK_UNSUPPORTED for one that cannot run here. */
const Kernels &kernels_named(const std::string &name);

}  // namespace ek

#endif
