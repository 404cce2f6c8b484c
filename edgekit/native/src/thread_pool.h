/* A fork-join thread pool for steps of microseconds. Workers spin for a while before they sleep, and a step never waits for a
 * worker that the system does not run at the moment, unless it is in the middle of a task. */
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
   * once (see running_threads); the others are never woken. 0: all, for tasks that wait for each other. Throws
   * Error(EK_NO_MEMORY) if the system does not start that many threads. */
  explicit ThreadPool(int threads, std::vector<int> cpus = {}, int running = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /* Call work(task, thread) for every task from 0 to tasks - 1 (fewer than 2^32). Each thread starts with a range of adjacent
   * tasks, and takes tasks from the others when it has none left. Returns when all are done. Only one thread may call this at a
   * time. In a child process that was forked, which has none of the workers, the calling thread does all tasks. */
  template <typename Work>
  void run(int64_t tasks, const Work &work) {
    if (tasks <= 1 || running_ == 1 || forked()) {
      for (int64_t task = 0; task < tasks; ++task) work(task, 0);
      return;
    }
    run_step(tasks, {&work, [](const void *of, int64_t task, int thread) { (*static_cast<const Work *>(of))(task, thread); }});
  }

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

  void run_step(int64_t tasks, Step step);
  void serve(int thread);
  void stop(); /* end all workers */
  bool forked() const;
  void work_on(int thread);
  bool take_own(int thread, int64_t &task);
  bool take_from_others(int64_t &task);

  const std::vector<int> cpus_;
  const int running_;
  std::vector<Thread> workers_;
  std::unique_ptr<Range[]> ranges_;
  Step step_{nullptr, nullptr}; /* read by threads that have a task of the step, so it does not change meanwhile */
  alignas(64) std::atomic<uint64_t> steps_{0}; /* incremented when a step starts */
  alignas(64) std::atomic<int64_t> left_{0};   /* tasks that are not done */
  std::atomic<bool> stop_{false};
  std::atomic<bool> asleep_{false}; /* a worker waits to be woken */
  const int forks_;
  struct Sleep {
    std::mutex mutex;
    std::condition_variable wake, end; /* `end`: for the workers that are never woken */
  };
  std::unique_ptr<Sleep> sleep_{new Sleep}; /* a forked child cannot destroy it: workers of its parent may wait there */
};

}  // namespace ek

#endif
