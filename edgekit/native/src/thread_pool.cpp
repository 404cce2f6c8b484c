#include "thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

#include "error.h"
#include "topology.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define EK_PAUSE() _mm_pause()
#elif defined(__aarch64__)
#define EK_PAUSE() __asm__ __volatile__("yield")
#else
#define EK_PAUSE() ((void)0)
#endif

namespace ek {
namespace {
/* How often a worker looks for the next step before it sleeps: about 100 us, longer than the gap between two steps of a
 * token. After the first pauses it yields between them, so that a thread that waits for this core (another one of this pool,
 * where it has more threads than cores, or another program) does not wait for it. */
constexpr int kSpins = 4000, kSpinsAlone = 400, kSpinsPerYield = 100;

void pause_or_yield(int spins) {
  if (spins < kSpinsAlone || spins % kSpinsPerYield)
    EK_PAUSE();
  else
    std::this_thread::yield();
}

constexpr uint64_t range(uint64_t first, uint64_t end) { return first << 32 | end; }
constexpr uint64_t first_of(uint64_t range) { return range >> 32; }
constexpr uint64_t end_of(uint64_t range) { return range & 0xffffffffu; }
constexpr uint64_t count_of(uint64_t range) { return end_of(range) - first_of(range); }

/* How often this process is the child of a fork. */
std::atomic<int> forks{0};
[[maybe_unused]] const int counts_forks = ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
}  // namespace

ThreadPool::ThreadPool(int threads, std::vector<int> cpus, int running)
    : cpus_(std::move(cpus)),
      running_(running > 0 ? std::min(running, threads) : threads),
      ranges_(new Range[static_cast<size_t>(running_)]),
      forks_(forks.load(std::memory_order_relaxed)) {
  try {
    workers_.reserve(static_cast<size_t>(threads));
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { serve(i); });
  } catch (const std::system_error &error) { /* the destructor does not run, and the workers wait for the next step */
    const int started = static_cast<int>(workers_.size());
    stop();
    fail(EK_NO_MEMORY, "cannot start %d threads: the system refused thread %d (%s)", threads, started + 2,
         error.code().message().c_str());
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

bool ThreadPool::forked() const { return forks.load(std::memory_order_relaxed) != forks_; }

void ThreadPool::stop() {
  if (forked()) { /* the threads exist only in the parent, so what refers to them can be neither joined nor destroyed */
    new std::vector<Thread>(std::move(workers_));
    sleep_.release();
    return;
  }
  stop_ = true;
  {
    std::lock_guard<std::mutex> lock(sleep_->mutex);
    steps_.fetch_add(1);
  }
  sleep_->wake.notify_all();
  sleep_->end.notify_all();
  for (Thread &worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::run_step(int64_t tasks, Step step) {
  step_ = step;
  left_.store(tasks, std::memory_order_relaxed);
  /* A worker that is late for the step before may take tasks as soon as they are here. */
  for (int64_t t = 0, end = 0; t < running_; ++t) {
    const int64_t first = end;
    end = tasks * (t + 1) / running_;
    ranges_[static_cast<size_t>(t)].tasks.store(range(static_cast<uint64_t>(first), static_cast<uint64_t>(end)),
                                                std::memory_order_release);
  }
  steps_.fetch_add(1); /* sequentially consistent: a sleeper either sees this or is seen below */
  if (asleep_.load()) {
    std::lock_guard<std::mutex> lock(sleep_->mutex);
    asleep_.store(false);
    sleep_->wake.notify_all();
  }
  work_on(0);
  for (int spins = 0; left_.load(std::memory_order_acquire) > 0; spins = spins < kSpins ? spins + 1 : kSpinsAlone)
    pause_or_yield(spins);
}

bool ThreadPool::take_own(int thread, int64_t &task) {
  std::atomic<uint64_t> &own = ranges_[static_cast<size_t>(thread)].tasks;
  uint64_t left = own.load(std::memory_order_relaxed);
  do {
    if (count_of(left) == 0) return false;
    task = static_cast<int64_t>(first_of(left));
  } while (!own.compare_exchange_weak(left, range(first_of(left) + 1, end_of(left)), std::memory_order_acquire,
                                      std::memory_order_relaxed));
  return true;
}

/* From the end of the longest range, so that what is left of it is still read in one go. */
bool ThreadPool::take_from_others(int64_t &task) {
  for (;;) {
    std::atomic<uint64_t> *longest = nullptr;
    uint64_t left = 0;
    for (int t = 0; t < running_; ++t) {
      std::atomic<uint64_t> &tasks = ranges_[static_cast<size_t>(t)].tasks;
      const uint64_t seen = tasks.load(std::memory_order_relaxed);
      if (count_of(seen) > count_of(left)) longest = &tasks, left = seen;
    }
    if (!longest) return false;
    task = static_cast<int64_t>(end_of(left)) - 1;
    if (longest->compare_exchange_weak(left, range(first_of(left), end_of(left) - 1), std::memory_order_acquire,
                                       std::memory_order_relaxed))
      return true;
  }
}

void ThreadPool::work_on(int thread) {
  for (int64_t task; take_own(thread, task) || take_from_others(task);) {
    step_.call(step_.work, task, thread);
    left_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::serve(int thread) {
  if (thread >= running_) {
    std::unique_lock<std::mutex> lock(sleep_->mutex);
    sleep_->end.wait(lock, [this] { return stop_.load(); });
    return;
  }
  keep_on(cpus_);
  uint64_t seen = 0;
  for (;;) {
    int spins = 0;
    while (steps_.load(std::memory_order_acquire) == seen && spins < kSpins) pause_or_yield(spins++);
    if (steps_.load() == seen) {
      std::unique_lock<std::mutex> lock(sleep_->mutex);
      for (asleep_.store(true); steps_.load() == seen; asleep_.store(true)) sleep_->wake.wait(lock);
    }
    seen = steps_.load();
    if (stop_) return;
    work_on(thread);
  }
}

}  // namespace ek
