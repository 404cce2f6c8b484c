#include "process.h"

#include <pthread.h>

#include <atomic>

namespace ek {
namespace {

std::atomic<int> forks_so_far{0};

void before_fork() {
  opening_mutex().lock();
  short_mutex().lock();
}

void after_fork() {
  short_mutex().unlock();
  opening_mutex().unlock();
}

void in_child() {
  forks_so_far.fetch_add(1, std::memory_order_relaxed);
  after_fork();
}

[[maybe_unused]] const int watches_forks = ::pthread_atfork(before_fork, after_fork, in_child);

}  // namespace

std::mutex &opening_mutex() {
  static std::mutex &mutex = *new std::mutex;
  return mutex;
}

std::mutex &short_mutex() {
  static std::mutex &mutex = *new std::mutex;
  return mutex;
}

int forks() { return forks_so_far.load(std::memory_order_relaxed); }

}  // namespace ek
