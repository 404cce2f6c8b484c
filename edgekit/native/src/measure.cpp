#include "measure.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "cgroup.h"
#include "error.h"
#include "memory.h"
#include "thread_pool.h"
#include "topology.h"

namespace ek {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kPage = 4096;
constexpr Seconds kWindow{0.05};        /* hundreds of steps, so that one more or less does not matter */
constexpr int kWindows = 6;             /* after one warm-up window, in which the clock rises */
constexpr int64_t kStepBytes = kMiB;    /* read between two checks of the time: 20 us at 50 GB/s */
constexpr int64_t kStepSpins = 1 << 16; /* about 100 us */

/* Call step(thread) on all threads at once, over and over, for one window. step returns the amount of work it did; the result
 * is the work of all threads per second. The time runs from when the last thread is ready until the last one ends. */
double rate_of_window(ThreadPool &pool, const std::function<double(int)> &step) {
  const int threads = pool.threads();
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  Clock::time_point start;
  std::vector<double> done(static_cast<size_t>(threads));
  std::vector<Clock::time_point> ends(static_cast<size_t>(threads));
  /* There are as many tasks as threads, and no task returns before all have started, so each thread gets exactly one. */
  pool.run(threads, [&](int64_t, int thread) {
    if (ready.fetch_add(1) + 1 == threads) {
      start = Clock::now();
      go.store(true, std::memory_order_release);
    }
    while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
    double count = 0;
    Clock::time_point now;
    do {
      count += step(thread);
      now = Clock::now();
    } while (now - start < kWindow);
    done[static_cast<size_t>(thread)] = count;
    ends[static_cast<size_t>(thread)] = now;
  });
  double total = 0;
  for (const double count : done) total += count;
  return total / Seconds(*std::max_element(ends.begin(), ends.end()) - start).count();
}

double best_rate(ThreadPool &pool, const std::function<double(int)> &step) {
  double best = 0;
  rate_of_window(pool, step);
  for (int i = 0; i < kWindows; ++i) best = std::max(best, rate_of_window(pool, step));
  return best;
}

/* A cache line; the compiler splits it into registers. */
typedef uint64_t Line __attribute__((vector_size(64)));

/* Read a multiple of 512 bytes, with prefetches one page ahead, because hardware prefetchers stop at page boundaries. */
void read_all(const uint8_t *from, int64_t bytes) {
  Line sums[2] = {}; /* eight SSE registers; more would spill */
  for (const uint8_t *p = from, *end = from + bytes; p < end; p += 512) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      __builtin_prefetch(p + kPage + i * 64);
      sums[i % 2] += *reinterpret_cast<const Line *>(p + i * 64);
    }
  }
  const Line sum = sums[0] ^ sums[1];
  volatile uint64_t sink = sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
  (void)sink;
}

/* The last-level cache of the first CPU in bytes; 0 if the system does not report it, as on many boards. The minimum of
 * bandwidth_buffer, 256 MiB, is eight times the largest cache of those boards. */
int64_t last_level_cache(const std::string &root) {
  int64_t largest = 0;
  for (int index = 0; index < 8; ++index) { /* "32768K" */
    const std::string folder = root + "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index);
    const std::string size = read_text(folder + "/size");
    if (size.empty()) continue;
    const int64_t unit = size.back() == 'K' ? 1024 : size.back() == 'M' ? kMiB : 1;
    const int64_t count = std::strtoll(size.c_str(), nullptr, 10);
    if (count < INT64_MAX / unit) largest = std::max(largest, count * unit);
  }
  return largest;
}

struct Free {
  void operator()(uint8_t *p) const { ::operator delete(p, std::align_val_t{kPage}); }
};

void check_threads(int threads) {
  if (threads < 1 || threads > kMostThreads)
    fail(EK_BAD_ARGUMENT, "%d threads were requested; allowed: 1 to %d", threads, kMostThreads);
}

}  // namespace

int64_t bandwidth_buffer(const std::string &root) {
  const int64_t cache = last_level_cache(root), available = available_memory(root);
  const int64_t wanted = std::max(256 * kMiB, 8 * cache), least = std::max(64 * kMiB, 4 * cache);
  if (available < 0) return wanted;
  if (available / 4 < least)
    fail(EK_NO_MEMORY, "cannot measure memory bandwidth: the buffer needs %" PRId64 " bytes (four times the cache of %" PRId64
         " bytes, at least 64 MiB), more than a quarter of the %" PRId64 " bytes available", least, cache, available);
  return std::min(wanted, available / 4);
}

double measure_bandwidth(int threads, int64_t bytes) {
  check_threads(threads);
  if (bytes == 0) bytes = bandwidth_buffer("");
  const int64_t part = bytes / threads / kPage * kPage, available = available_memory("");
  if (part < kPage)
    fail(EK_BAD_ARGUMENT,
         "cannot measure memory bandwidth with a buffer of %" PRId64 " bytes; needed: %" PRId64 " bytes for each of %d threads",
         bytes, kPage,
         threads);
  std::unique_ptr<uint8_t, Free> buffer;
  if (available < 0 || bytes <= available) {
    const auto size = static_cast<size_t>(part * threads);
    buffer.reset(static_cast<uint8_t *>(::operator new(size, std::align_val_t{kPage}, std::nothrow)));
  }
  if (!buffer)
    fail(EK_NO_MEMORY,
         "cannot measure memory bandwidth: the buffer needs %" PRId64 " bytes; %" PRId64 " are available", bytes, available);
  ThreadPool pool(threads, worker_cpus(threads));
  /* The position of each thread in its part, each in a cache line of its own. */
  struct alignas(64) Reader {
    int64_t at = 0;
    bool touched = false;
  };
  std::vector<Reader> readers(static_cast<size_t>(threads));
  return best_rate(pool, [&](int thread) {
    Reader &reader = readers[static_cast<size_t>(thread)];
    uint8_t *mine = buffer.get() + thread * part;
    if (!reader.touched) { /* during warm-up; not with zeros, because a system may share or compress zero pages */
      auto *words = reinterpret_cast<uint64_t *>(mine);
      for (int64_t i = 0; i < part / 8; ++i) words[i] = static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u;
      reader.touched = true;
    }
    const int64_t count = std::min(kStepBytes, part - reader.at);
    read_all(mine + reader.at, count);
    reader.at = reader.at + count == part ? 0 : reader.at + count;
    return static_cast<double>(count);
  });
}

double measure_kernel(const Kernels &kernels, int threads) {
  check_threads(threads);
  ThreadPool pool(threads, worker_cpus(threads));
  return best_rate(pool, [&](int) { return static_cast<double>(kernels.spin(kStepSpins)); });
}

}  // namespace ek
