/* Tests that every task of every step runs once, also after the workers went to sleep, and what happens if the system does not
 * start all threads. */
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "edgekit_tools.h"
#include "src/error.h"
#include "src/thread_pool.h"

namespace {

std::atomic<int> threads_left{1 << 30}; /* that the system will start */

void every_task_once() {
  for (int threads : {1, 2, 3, 8}) {
    ek::ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (int step = 0; step < 2000; ++step) {
      const int tasks = step % 37;
      std::vector<std::atomic<int>> done(static_cast<size_t>(tasks));
      int total = 0;
      pool.run(tasks, [&](int64_t task, int thread) {
        CHECK(thread >= 0 && thread < threads);
        ++done[static_cast<size_t>(task)];
      });
      for (const std::atomic<int> &count : done) total += count;
      CHECK(total == tasks);
      if (step % 500 == 499) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
}

/* The workers that did start must end before the error is reported, asleep or not. */
void too_few_threads() {
  for (int started : {0, 1, 5})
    for (int milliseconds : {0, 20}) {
      threads_left = started;
      std::string said;
      try {
        ek::ThreadPool pool(8);
      } catch (const ek::Error &error) {
        CHECK(error.status == EK_NO_MEMORY);
        said = error.what();
      }
      CHECK(said.find("cannot start 8 threads: the system refused thread " + std::to_string(started + 2)) == 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    }
  double rate;
  threads_left = 1;
  CHECK(ek_measure_kernel("scalar", 4, &rate) == EK_NO_MEMORY);
  threads_left = 1 << 30;
  ek::ThreadPool pool(8); /* nothing is left behind */
  std::atomic<int> done{0};
  pool.run(100, [&](int64_t, int) { ++done; });
  CHECK(done == 100);
}

/* A forked child has none of the workers: it computes alone, and ends. */
void forked_child() {
  ek::ThreadPool pool(4);
  pool.run(100, [](int64_t, int) {});
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    int64_t sum = 0;
    {
      ek::ThreadPool own(1);
      pool.run(100, [&](int64_t task, int thread) { sum += task + thread; });
      own.run(3, [&](int64_t, int) { ++sum; });
    }
    pool.~ThreadPool();
    ::_exit(sum == 4953 ? 0 : 1);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  std::atomic<int> done{0};
  pool.run(100, [&](int64_t, int) { ++done; });
  CHECK(done == 100);
}

}  // namespace

/* Stands before the system's function, which it calls, and fails as the system does when a limit is reached. */
extern "C" __attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                                                     void *(*start)(void *), void *argument) {
  if (threads_left.fetch_sub(1) <= 0) return EAGAIN;
  using Create = int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  static const Create system = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return system(thread, attributes, start, argument);
}

int main() {
  every_task_once();
  too_few_threads();
  forked_child();
  return finish("thread_pool_test");
}
