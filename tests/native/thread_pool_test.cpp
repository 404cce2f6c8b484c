/* Tests that every task of every step runs once, also after the workers went to sleep. */
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "check.h"
#include "src/thread_pool.h"

int main() {
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
  return finish("thread_pool_test");
}
