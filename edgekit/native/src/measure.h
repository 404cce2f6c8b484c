/* Measures the hardware limits: the bandwidth of main memory in bytes per second, and the peak arithmetic rate in
 * multiply-adds per second. Speeds of models are reported as percentages of these.
 *
 * Each result is the best of several windows of 50 ms in which all threads work at once. Other programs, interrupts and a
 * low clock can only reduce the rate, so the best window is closest to the limit. It does not predict the rate that a
 * device sustains when it gets hot. */
#ifndef EDGEKIT_SRC_MEASURE_H
#define EDGEKIT_SRC_MEASURE_H

#include <cstdint>
#include <string>

#include "../kernels/kernels.h"

namespace ek {

constexpr int kMostThreads = 1024;

/* The default size of the buffer of measure_bandwidth: eight times the last-level cache, so that at most an eighth of it can
 * be in the cache when it is read again, and at least 256 MiB. It is reduced to a quarter of the available memory, but not
 * below four times the cache or 64 MiB. Throws Error(EK_NO_MEMORY) if that is not possible. `root`: as in topology.h. */
int64_t bandwidth_buffer(const std::string &root);

/* The rate of sequential reads of main memory in bytes per second, with `threads` threads. Each thread reads its own part of
 * the buffer, which it wrote first. bytes: the size of the buffer, at least a page for each thread; 0: bandwidth_buffer.
 * Throws Error: EK_BAD_ARGUMENT, EK_NO_MEMORY. */
double measure_bandwidth(int threads, int64_t bytes);

/* The rate of the innermost instructions of prefill on registers alone, in multiply-adds per second, with `threads` threads.
 * Throws Error(EK_BAD_ARGUMENT). */
double measure_kernel(const Kernels &kernels, int threads);

}  // namespace ek

#endif
