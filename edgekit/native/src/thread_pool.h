/* A fork-join thread pool for steps of microseconds, shared by all sessions with the same number of threads.
 *
 * Workers spin for a while before they sleep. A step never waits for a worker that the system does not run at the moment, unless
 * it is in the middle of a task. Where that happens often, because another program uses the worker's core, the pool does
 * without the worker (see Neighbours). */
#ifndef EDGEKIT_SRC_THREAD_POOL_H
#define EDGEKIT_SRC_THREAD_POOL_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "thread.h"

namespace ek {

class ThreadPool {
 public:
  /* threads: includes the calling thread, which also works. cpus: the CPUs to bind the workers to (see worker_cpus); empty:
   * not bound. The calling thread is never bound, because it belongs to the application. running: how many threads can run at
   * once (see running_threads); the others are not started, and if the system refuses to start a thread, fewer run. 0: always
   * all, for tasks that wait for each other; throws Error(EK_NO_MEMORY) if the system does not start that many threads. */
  explicit ThreadPool(int threads, std::vector<int> cpus = {}, int running = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int threads() const { return threads_; }
  int wanted() const { return wanted_; }   /* how many would run at once if the system had not refused any */
  int running() const { return running_; } /* how many run at once */

  /* A call that runs many steps. While several threads make such calls, each of them takes the place of a worker. */
  class Caller {
   public:
    explicit Caller(ThreadPool &pool) : pool_(pool) { pool_.enter(); }
    ~Caller() { pool_.callers_.fetch_sub(1, std::memory_order_relaxed); }
    Caller(const Caller &) = delete;
    Caller &operator=(const Caller &) = delete;

   private:
    ThreadPool &pool_;
  };

  /* Call work(task, thread) for every task from 0 to tasks - 1 (fewer than 2^32). Each thread starts with a range of adjacent
   * tasks, and takes tasks from the others when it has none left. Returns when all are done. Any thread may call this. The
   * calling thread is thread 0 and does all tasks itself while the workers are busy with a step of another thread, and in a
   * child process that was forked, which has none of the workers. */
  template <typename Work>
  void run(int64_t tasks, const Work &work) {
    if (tasks <= 1 || running_ == 1 || forked() || !take_workers()) {
      for (int64_t task = 0; task < tasks; ++task) work(task, 0);
      return;
    }
    run_step(tasks, {&work, [](const void *of, int64_t task, int thread) { (*static_cast<const Work *>(of))(task, thread); }});
    taken_.store(false, std::memory_order_release);
  }

  bool forked() const;

 private:
  struct Step { /* what a step calls */
    const void *work;
    void (*call)(const void *work, int64_t task, int thread);
  };
  /* The tasks that a thread has left: the first one in the upper 32 bits, the end of the range in the lower ones. On its own
   * cache line, because other threads look at it only when they have nothing left. */
  struct alignas(64) Range {
    std::atomic<uint64_t> tasks{0};
  };
  /* How many threads may work, where other threads of this process or other programs need cores as well. Guarded by the
   * mutex of Sleep. Times in nanoseconds. */
  struct Neighbours {
    int crowd = 1;            /* threads of this process that run steps; as many workers stay away as there are more than one */
    int64_t crowd_until = 0;  /* when fewer are believed, because calls follow each other closely */
    int fit = 0;              /* threads that the system runs without long pauses; at most running_ */
    int64_t waited_since = 0; /* a window of time, and how long steps waited in it for a worker that did not run */
    int64_t waited = 0;
    int64_t next_trial = 0;   /* when the first worker that stays away shows whether the system runs it again */
    int64_t pause = 0;        /* between two trials */
  };

  bool take_workers();
  void run_step(int64_t tasks, Step step);
  void wait_for_workers(uint64_t start);
  void serve(int thread);
  void park(int thread, uint64_t seen);
  void stop(); /* end all workers */
  void work_on(int thread);
  bool take_own(int thread, int64_t &task);
  bool take_from_others(int64_t &task);

  void enter();
  void reconsider();
  void waited(int64_t from, int64_t until);
  void try_worker(int thread);
  void allow(); /* after a change of neighbours_ */

  const std::vector<int> cpus_;
  const int threads_, wanted_;
  int running_;
  const bool adapts_;
  std::vector<Thread> workers_;
  std::unique_ptr<Range[]> ranges_;
  Step step_{nullptr, nullptr}; /* read by threads that have a task of the step, so it does not change meanwhile */
  alignas(64) std::atomic<uint64_t> steps_{0}; /* incremented when a step starts */
  alignas(64) std::atomic<int64_t> left_{0};   /* tasks that are not done */
  alignas(64) std::atomic<bool> taken_{false}; /* a step uses the workers */
  std::atomic<int> allowed_;                   /* the threads that work; the others are parked */
  std::atomic<int> callers_{0};
  std::atomic<int> trial_{0}; /* the worker to try, or 0 */
  std::atomic<bool> stop_{false};
  std::atomic<bool> asleep_{false}; /* a worker waits to be woken */
  const int forks_;
  struct Sleep {
    std::mutex mutex;
    std::condition_variable wake, away; /* `away`: for the workers that stay away */
  };
  std::unique_ptr<Sleep> sleep_{new Sleep}; /* a forked child cannot destroy it: workers of its parent may wait there */
  Neighbours neighbours_;
};

/* The pool of this process for sessions with this many threads, at most running_threads of which run at once. Throws
 * Error(EK_NO_MEMORY). */
std::shared_ptr<ThreadPool> shared_pool(int threads);

}  // namespace ek

#endif
