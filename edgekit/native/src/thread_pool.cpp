#include "thread_pool.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include "error.h"
#include "process.h"
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

/* A step that waits for a worker, after its pauses, longer than the calling thread has worked on the step, and longer than
 * kLongWait, waits for a worker that the system has stopped in the middle of a task. If such waits take a larger share of a
 * window than most_waited, the pool does without one worker, which costs less. */
constexpr int64_t kMicrosecond = 1000, kMillisecond = 1000000;
constexpr int64_t kLongWait = 100 * kMicrosecond, kWindow = 50 * kMillisecond;
/* After a pause, the worker spins for kTrial and looks at the clock. If it was stopped for less than kMostStopped, it works again.
 * Otherwise the next pause is twice as long. A time slice of Linux, after which a neighbour has its turn, is about 3 ms. */
constexpr int64_t kTrial = 8 * kMillisecond, kMostStopped = kMillisecond, kStopped = 100 * kMicrosecond;
constexpr int64_t kShortestPause = 50 * kMillisecond, kLongestPause = 1000 * kMillisecond;
constexpr int64_t kCrowd = 5 * kMillisecond; /* longer than what a program does between two calls for tokens */

/* One of n threads does at most 1 / n of the work; less, because decoding is limited by memory: two threads were 1.45 times as
 * fast as one, so waits may take 0.3 of the time. */
int64_t most_waited(int threads) { return kWindow * 6 / (10 * threads); }

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/* A clock of any unit that takes few cycles. */
uint64_t ticks() {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  uint64_t count;
  __asm__ __volatile__("mrs %0, cntvct_el0" : "=r"(count));
  return count;
#else
  return static_cast<uint64_t>(now());
#endif
}

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

}  // namespace

ThreadPool::ThreadPool(int threads, std::vector<int> cpus, int running)
    : cpus_(std::move(cpus)),
      threads_(threads),
      wanted_(running > 0 ? std::min(running, threads) : threads),
      running_(wanted_),
      adapts_(running > 0),
      ranges_(new Range[static_cast<size_t>(wanted_)]),
      allowed_(wanted_),
      forks_(forks()) {
  neighbours_.pause = kShortestPause;
  try {
    workers_.reserve(static_cast<size_t>(wanted_));
    for (int i = 1; i < wanted_; ++i) workers_.emplace_back([this, i] { serve(i); });
  } catch (const std::system_error &error) {
    const int started = static_cast<int>(workers_.size()) + 1;
    if (!adapts_) {
      stop(); /* the destructor does not run, and the workers wait for the next step */
      fail(EK_NO_MEMORY, "cannot start %d threads: the system refused thread %d (%s)", threads, started + 1,
           error.code().message().c_str());
    }
    running_ = started; /* no worker looks at it before the first step */
    allowed_ = started;
  } catch (...) {
    stop();
    throw;
  }
  neighbours_.fit = running_;
}

ThreadPool::~ThreadPool() { stop(); }

bool ThreadPool::forked() const { return forks() != forks_; }

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
  sleep_->away.notify_all();
  for (Thread &worker : workers_) worker.join();
  workers_.clear();
}

/* Whether the calling thread may start a step of the workers. */
bool ThreadPool::take_workers() {
  if (allowed_.load(std::memory_order_relaxed) < running_) {
    reconsider();
    if (allowed_.load(std::memory_order_relaxed) < 2) return false;
  }
  return !taken_.load(std::memory_order_relaxed) && !taken_.exchange(true, std::memory_order_acquire);
}

void ThreadPool::run_step(int64_t tasks, Step step) {
  const uint64_t start = ticks();
  const int64_t threads = allowed_.load(std::memory_order_relaxed);
  step_ = step;
  left_.store(tasks, std::memory_order_relaxed);
  /* A worker that is late for the step before may take tasks as soon as they are here. */
  for (int64_t t = 0, end = 0; t < threads; ++t) {
    const int64_t first = end;
    end = tasks * (t + 1) / threads;
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
  wait_for_workers(start);
}

void ThreadPool::wait_for_workers(uint64_t start) {
  int spins = 0;
  for (; left_.load(std::memory_order_acquire) > 0 && spins < kSpinsAlone; ++spins) EK_PAUSE();
  if (left_.load(std::memory_order_acquire) == 0) return;
  const int64_t from = now();
  const uint64_t since = ticks();
  for (; left_.load(std::memory_order_acquire) > 0; spins = spins < kSpins ? spins + 1 : kSpinsAlone) pause_or_yield(spins);
  if (!adapts_ || ticks() - since <= since - start) return;
  if (const int64_t until = now(); until - from > kLongWait) waited(from, until);
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
  keep_on(cpus_);
  uint64_t seen = 0;
  for (;;) {
    int spins = 0;
    while (steps_.load(std::memory_order_acquire) == seen && spins < kSpins) pause_or_yield(spins++);
    if (steps_.load() == seen || thread >= allowed_.load(std::memory_order_relaxed)) park(thread, seen);
    seen = steps_.load();
    if (stop_) return;
    if (trial_.load(std::memory_order_relaxed) == thread) try_worker(thread);
    if (thread < allowed_.load(std::memory_order_relaxed)) work_on(thread);
  }
}

/* Sleep until there is a step after `seen` to work on. */
void ThreadPool::park(int thread, uint64_t seen) {
  std::unique_lock<std::mutex> lock(sleep_->mutex);
  while (!stop_ && trial_ != thread) {
    if (thread >= allowed_) {
      sleep_->away.wait(lock);
      continue;
    }
    asleep_.store(true);
    if (steps_.load() != seen) return;
    sleep_->wake.wait(lock);
  }
}

void ThreadPool::allow() {
  const int before = allowed_, after = std::max(1, std::min(neighbours_.fit, running_ - (neighbours_.crowd - 1)));
  allowed_ = after;
  if (after > before) sleep_->away.notify_all();
}

void ThreadPool::enter() {
  const int callers = callers_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (callers == 1 || !adapts_ || running_ == 1 || forked()) return;
  const std::lock_guard<std::mutex> lock(sleep_->mutex);
  if (callers < neighbours_.crowd) return;
  neighbours_.crowd = callers;
  neighbours_.crowd_until = now() + kCrowd;
  allow();
}

/* Called before a step while some workers stay away: let them come back if there is room again. */
void ThreadPool::reconsider() {
  const std::unique_lock<std::mutex> lock(sleep_->mutex, std::try_to_lock);
  if (!lock) return;
  const int callers = std::max(1, callers_.load(std::memory_order_relaxed));
  const int64_t time = now();
  if (callers < neighbours_.crowd && time > neighbours_.crowd_until) {
    neighbours_.crowd = callers;
    allow();
  }
  if (neighbours_.crowd == 1 && neighbours_.fit < running_ && trial_ == 0 && time > neighbours_.next_trial) {
    trial_ = neighbours_.fit; /* threads are counted from 0, so this is the first one that stays away */
    sleep_->away.notify_all();
    sleep_->wake.notify_all(); /* it fell asleep before it was told to stay away */
  }
}

/* A step has waited for a worker that the system did not run. */
void ThreadPool::waited(int64_t from, int64_t until) {
  const std::lock_guard<std::mutex> lock(sleep_->mutex);
  Neighbours &all = neighbours_;
  if (from - all.waited_since > kWindow) {
    if (from - all.waited_since > 2 * kLongestPause) all.pause = kShortestPause; /* the neighbour is another one */
    all.waited_since = from;
    all.waited = 0;
  }
  all.waited += until - from;
  if (all.waited < most_waited(allowed_)) return;
  all.fit = std::max(1, std::min(all.fit, allowed_.load()) - 1);
  all.next_trial = until + all.pause;
  all.waited = 0;
  allow();
}

/* Called by a worker that stays away: find out whether the system runs it without stopping it. */
void ThreadPool::try_worker(int thread) {
  const int64_t start = now();
  int64_t last = start, stopped = 0;
  while (last - start < kTrial && !stop_) {
    for (int i = 0; i < kSpinsPerYield; ++i) EK_PAUSE();
    const int64_t time = now();
    if (time - last > kStopped) stopped += time - last;
    last = time;
  }
  const std::lock_guard<std::mutex> lock(sleep_->mutex);
  Neighbours &all = neighbours_;
  trial_ = 0;
  if (stopped < kMostStopped) {
    all.fit = std::max(all.fit, thread + 1);
    all.waited = 0;
    allow();
  } else {
    all.pause = std::min(2 * all.pause, kLongestPause);
  }
  all.next_trial = last + all.pause;
}

std::shared_ptr<ThreadPool> shared_pool(int threads) {
  struct Shared {
    int threads, running;
    std::vector<int> cpus;
    std::weak_ptr<ThreadPool> pool;
  };
  /* Never destroyed, because threads may still create sessions while the process ends. */
  static std::vector<Shared> &all = *new std::vector<Shared>;
  const std::vector<int> cpus = worker_cpus(threads);
  const int running = running_threads(threads);
  const std::lock_guard<std::mutex> lock(opening_mutex());
  all.erase(std::remove_if(all.begin(), all.end(), [](const Shared &each) { return each.pool.expired(); }), all.end());
  for (const Shared &each : all)
    if (each.threads == threads && each.running == running && each.cpus == cpus)
      if (std::shared_ptr<ThreadPool> pool = each.pool.lock(); pool && !pool->forked() && pool->running() == pool->wanted()) return pool;
  const auto pool = std::make_shared<ThreadPool>(threads, cpus, running);
  all.push_back({threads, running, cpus, pool});
  return pool;
}

}  // namespace ek
