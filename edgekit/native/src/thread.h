/* A thread with a stack that is large enough for every kernel, on every system. */
#ifndef EDGEKIT_SRC_THREAD_H
#define EDGEKIT_SRC_THREAD_H

#include <pthread.h>

#include <exception>
#include <functional>
#include <memory>
#include <system_error>
#include <utility>

namespace ek {

/* As std::thread, whose stack has 128 KB with musl and 512 KB on macOS; neon_i8mm's products use up to 352 KB. Only pages
 * that are touched take memory. */
class Thread {
 public:
  static constexpr size_t kStackBytes = 2 << 20;

  /* Throws std::system_error if the system does not start a thread. */
  explicit Thread(std::function<void()> work) {
    auto owned = std::make_unique<std::function<void()>>(std::move(work));
    pthread_attr_t attributes;
    int error = ::pthread_attr_init(&attributes);
    if (error == 0) {
      error = ::pthread_attr_setstacksize(&attributes, kStackBytes);
      if (error == 0) error = ::pthread_create(&thread_, &attributes, run, owned.get());
      ::pthread_attr_destroy(&attributes);
    }
    if (error) throw std::system_error(error, std::generic_category());
    owned.release(); /* the thread's now */
    joinable_ = true;
  }
  Thread(Thread &&other) noexcept : thread_(other.thread_), joinable_(std::exchange(other.joinable_, false)) {}
  Thread &operator=(Thread &&) = delete;
  ~Thread() {
    if (joinable_) std::terminate();
  }

  void join() {
    ::pthread_join(thread_, nullptr);
    joinable_ = false;
  }

 private:
  static void *run(void *work) {
    const std::unique_ptr<std::function<void()>> owned(static_cast<std::function<void()> *>(work));
    (*owned)();
    return nullptr;
  }

  pthread_t thread_{};
  bool joinable_ = false;
};

}  // namespace ek

#endif
