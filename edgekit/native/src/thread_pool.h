/* A fork-join thread pool for steps of microseconds: workers spin for a while before they sleep. */
#ifndef EDGEKIT_SRC_THREAD_POOL_H
#define EDGEKIT_SRC_THREAD_POOL_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace ek {

class ThreadPool {
 public:
  /* threads: includes the calling thread, which also works. cpus: the CPUs to bind the workers to (see worker_cpus); empty:
   * not bound. The calling thread is never bound, because it belongs to the application. Throws Error(EK_NO_MEMORY) if the
   * system does not start that many threads. */
  explicit ThreadPool(int threads, std::vector<int> cpus = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /* Call work(task, thread) for every task from 0 to tasks - 1; each task goes to the next free thread. Returns when all are
   * done. Only one thread may call this at a time. In a child process that was forked, which has none of the workers, the
   * calling thread does all tasks. */
  void run(int64_t tasks, const std::function<void(int64_t, int)> &work);

 private:
  void serve(int thread);
  void stop(); /* end all workers */
  bool forked() const;
  void take_tasks(int thread);

  const std::vector<int> cpus_;
  const int spins_; /* pauses before a waiting thread sleeps */
  std::vector<std::thread> workers_;
  const std::function<void(int64_t, int)> *work_ = nullptr;
  int64_t tasks_ = 0;
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint64_t> step_{0}; /* incremented to start a step */
  alignas(64) std::atomic<int> busy_{0};
  std::atomic<bool> stop_{false};
  std::atomic<int> sleepers_{0};
  const int forks_;
  struct Sleep {
    std::mutex mutex;
    std::condition_variable wake;
  };
  std::unique_ptr<Sleep> sleep_{new Sleep}; /* a forked child cannot destroy it: workers of its parent may wait there */
};

}  // namespace ek

#endif
