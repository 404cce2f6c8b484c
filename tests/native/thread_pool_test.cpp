/* Tests that every task of every step runs once, also after the workers went to sleep or before they begin, and what happens if the system does not
 * start all threads. */
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "edgekit_tools.h"
#include "src/error.h"
#include "src/thread_pool.h"

namespace {

std::atomic<int> threads_left{1 << 30}; /* that the system will start */
std::atomic<bool> hold_new_threads{false};

/* What a new thread is to call. */
struct Start {
  void *(*function)(void *);
  void *argument;
};

void *start_later(void *of) {
  const std::unique_ptr<Start> start(static_cast<Start *>(of));
  while (hold_new_threads) std::this_thread::yield();
  return start->function(start->argument);
}

#if defined(EDGEKIT_EMULATED) || defined(__SANITIZE_THREAD__)
constexpr int kSteps = 300; /* each takes ten times as long */
#else
constexpr int kSteps = 2000;
#endif

void every_task_once() {
  for (const auto &[threads, running] : {std::pair{1, 0}, {2, 0}, {3, 0}, {8, 0}, {8, 2}, {2, 8}}) {
    ek::ThreadPool pool(threads, {}, running);
    const int most = running ? std::min(threads, running) : threads;
    CHECK(pool.threads() == threads);
    for (int step = 0; step < kSteps; ++step) {
      const int tasks = step % 37;
      std::vector<std::atomic<int>> done(static_cast<size_t>(tasks));
      pool.run(tasks, [&](int64_t task, int thread) {
        CHECK(thread >= 0 && thread < most);
        ++done[static_cast<size_t>(task)];
      });
      for (const std::atomic<int> &count : done) CHECK(count == 1);
      if (step % (kSteps / 4) == kSteps / 4 - 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
}

/* Kernels use much more of it than the 128 KB that musl gives a thread by default. */
void large_stacks() {
  ek::ThreadPool pool(4);
  std::atomic<int> sum{0};
  pool.run(1000, [&](int64_t task, int) {
    volatile char stack[1 << 20];
    for (size_t i = 0; i < sizeof stack; i += 4096) stack[i] = static_cast<char>(task & 1);
    sum += stack[0];
  });
  CHECK(sum == 500);
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
  for (const int started : {0, 1, 5}) { /* where tasks do not wait for each other, fewer threads do */
    threads_left = started;
    ek::ThreadPool fewer(8, {}, 4);
    CHECK(fewer.threads() == 8 && fewer.wanted() == 4 && fewer.running() == std::min(4, started + 1));
    for (int step = 0; step < 100; ++step) {
      std::atomic<int> done{0};
      fewer.run(step, [&](int64_t, int thread) {
        CHECK(thread <= started);
        ++done;
      });
      CHECK(done == step);
    }
  }
  threads_left = 0;
  const std::shared_ptr<ek::ThreadPool> alone = ek::shared_pool(2);
  threads_left = 1 << 30;
  const std::shared_ptr<ek::ThreadPool> complete = ek::shared_pool(2);
  CHECK(complete->running() == complete->wanted() && (alone == complete) == (alone->running() == alone->wanted()));
  CHECK(ek::shared_pool(2) == complete);
  ek::ThreadPool pool(8); /* nothing is left behind */
  std::atomic<int> done{0};
  pool.run(100, [&](int64_t, int) { ++done; });
  CHECK(done == 100);
}

/* Seconds after which something hangs. On a busy machine, workers that were stopped stay away for a while. */
constexpr unsigned kHang = 300;

/* A step does not wait for workers that the system does not run: here, they have not even begun. */
void absent_workers() {
  ::alarm(kHang); /* a pool that waits for them never ends */
  hold_new_threads = true;
  ek::ThreadPool pool(4);
  for (int step = 0; step < 100; ++step) {
    std::vector<int> done(static_cast<size_t>(step));
    pool.run(step, [&](int64_t task, int thread) {
      CHECK(thread == 0);
      ++done[static_cast<size_t>(task)];
    });
    for (const int count : done) CHECK(count == 1);
  }
  hold_new_threads = false;
  std::atomic<int> begun{0};
  pool.run(4, [&](int64_t, int) { /* each thread gets one task */
    ++begun;
    while (begun < 4) std::this_thread::yield();
  });
  CHECK(begun == 4);
  ::alarm(0);
}

/* Several threads use one pool at once: one of them has the workers, the others compute alone. */
void several_callers() {
  ek::ThreadPool pool(3, {}, 3);
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c)
    callers.emplace_back([&] {
      for (int call = 0; call < 20; ++call) {
        const ek::ThreadPool::Caller caller(pool);
        for (int step = 0; step < 100; ++step) {
          std::vector<std::atomic<int>> done(static_cast<size_t>(step % 17));
          pool.run(step % 17, [&](int64_t task, int) { ++done[static_cast<size_t>(task)]; });
          for (const std::atomic<int> &count : done) CHECK(count == 1);
        }
      }
    });
  for (std::thread &caller : callers) caller.join();
  ::alarm(kHang); /* the workers come back when there is one caller */
  for (std::atomic<bool> helped{false}; !helped;) pool.run(8, [&](int64_t, int thread) {
    if (thread) helped = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5)); /* time to come, also on a busy machine */
  });
  ::alarm(0);
}

/* A worker that is stopped in the middle of tasks again and again stays away, and comes back later. */
void stopped_workers() {
  ::alarm(kHang);
  ek::ThreadPool pool(2, {}, 2);
  std::atomic<bool> slow{true}, helped{true};
  const auto step = [&] {
    helped = false;
    pool.run(8, [&](int64_t, int thread) {
      if (thread) helped = true;
      std::this_thread::sleep_for(thread || !slow ? std::chrono::milliseconds(5) : std::chrono::microseconds(20));
    });
    return helped.load();
  };
  for (int alone = 0; alone < 20;) alone = step() ? 0 : alone + 1;
  slow = false;
  while (!step()) {}
  ::alarm(0);
}

/* Sessions with the same number of threads share a pool as long as one of them exists. */
void shared_pools() {
  std::shared_ptr<ek::ThreadPool> two = ek::shared_pool(2);
  CHECK(two == ek::shared_pool(2) && two != ek::shared_pool(3) && two->threads() == 2);
  const std::weak_ptr<ek::ThreadPool> gone = two;
  two.reset();
  CHECK(gone.expired());
  const std::shared_ptr<ek::ThreadPool> one = ek::shared_pool(1);
  const pid_t child = ::fork();
  if (child == 0) { /* it has pools of its own, with workers */
    ::alarm(20);
    const std::shared_ptr<ek::ThreadPool> own = ek::shared_pool(1);
    ::_exit(own != one && one->forked() && !own->forked() ? 0 : 1);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
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

/* Stands before the system's function, which it calls. It fails as the system does when a limit is reached, and the thread
 * waits while new threads are held. */
extern "C" __attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                                                     void *(*start)(void *), void *argument) {
  if (threads_left.fetch_sub(1) <= 0) return EAGAIN;
  using Create = int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  static const Create system = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return system(thread, attributes, start_later, new Start{start, argument});
}

int main() {
  every_task_once();
  large_stacks();
  too_few_threads();
  absent_workers();
  several_callers();
  stopped_workers();
  shared_pools();
  forked_child();
  return finish("thread_pool_test");
}
