#include "thread_pool.h"

#include <pthread.h>

#include <system_error>
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
/* About 100 us of pauses: longer than the gap between two steps of a token. */
constexpr int kSpins = 4000;

/* With more threads than the processor has, a spinning thread would keep another one from working, so do not spin. */
int spins_for(int threads) {
  const unsigned hardware = std::thread::hardware_concurrency();
  return hardware && static_cast<unsigned>(threads) > hardware ? 0 : kSpins;
}

/* How often this process is the child of a fork. */
std::atomic<int> forks{0};
[[maybe_unused]] const int counts_forks = ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
}  // namespace

ThreadPool::ThreadPool(int threads, std::vector<int> cpus)
    : cpus_(std::move(cpus)), spins_(spins_for(threads)), forks_(forks.load(std::memory_order_relaxed)) {
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
    new std::vector<std::thread>(std::move(workers_));
    sleep_.release();
    return;
  }
  stop_ = true;
  {
    std::lock_guard<std::mutex> lock(sleep_->mutex);
    step_.fetch_add(1);
  }
  sleep_->wake.notify_all();
  for (std::thread &worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::run(int64_t tasks, const std::function<void(int64_t, int)> &work) {
  if (workers_.empty() || tasks <= 1 || forked()) {
    for (int64_t task = 0; task < tasks; ++task) work(task, 0);
    return;
  }
  work_ = &work;
  tasks_ = tasks;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  step_.fetch_add(1); /* sequentially consistent: a sleeper either sees this or is counted below */
  if (sleepers_.load() > 0) {
    std::lock_guard<std::mutex> lock(sleep_->mutex);
    sleep_->wake.notify_all();
  }
  take_tasks(0);
  /* Yield after a while: a worker that lost its core to another program gets it back sooner. */
  for (int spins = 0; busy_.load(std::memory_order_acquire) > 0; ++spins)
    if (spins < spins_)
      EK_PAUSE();
    else
      std::this_thread::yield();
}

void ThreadPool::take_tasks(int thread) {
  for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) (*work_)(task, thread);
}

void ThreadPool::serve(int thread) {
  keep_on(cpus_);
  uint64_t seen = 0;
  for (;;) {
    int spins = 0;
    while (step_.load(std::memory_order_acquire) == seen && spins++ < spins_) EK_PAUSE();
    if (step_.load() == seen) {
      std::unique_lock<std::mutex> lock(sleep_->mutex);
      sleepers_.fetch_add(1);
      sleep_->wake.wait(lock, [&] { return step_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    ++seen;
    if (stop_) return;
    take_tasks(thread);
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace ek
