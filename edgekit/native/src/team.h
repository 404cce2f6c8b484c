/* The threads that compute a session's steps. */
#ifndef EDGEKIT_SRC_TEAM_H
#define EDGEKIT_SRC_TEAM_H

#include <cstdint>
#include <memory>
#include <utility>

#include "thread_pool.h"
#include "usage.h"

namespace ek {

/* A pool, perhaps shared with other sessions, and the usage of one session. After its call is cancelled, the tasks that have not
 * started are skipped: what they would have computed is undefined, and the call must end with an error. */
class Team {
 public:
  explicit Team(std::shared_ptr<ThreadPool> pool, const Usage *usage = nullptr) : pool_(std::move(pool)), usage_(usage) {}

  int threads() const { return pool_->threads(); }
  ThreadPool &pool() const { return *pool_; }

  /* As ThreadPool::run. */
  template <typename Work>
  void run(int64_t tasks, const Work &work) {
    pool_->run(tasks, [&](int64_t task, int thread) {
      if (!usage_ || !usage_->cancelled()) work(task, thread);
    });
  }

 private:
  std::shared_ptr<ThreadPool> pool_;
  const Usage *usage_;
};

}  // namespace ek

#endif
