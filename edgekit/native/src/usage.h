/* Whether a call uses an object, such as a session, and whether another thread has cancelled that call. */
#ifndef EDGEKIT_SRC_USAGE_H
#define EDGEKIT_SRC_USAGE_H

#include <atomic>

namespace ek {

/* One value for both questions, so that a cancellation never reaches a later call than the one it is meant for. */
class Usage {
 public:
  /* false: another call uses the object. */
  bool begin() {
    int state = kFree;
    return state_.compare_exchange_strong(state, kUsed, std::memory_order_acquire, std::memory_order_relaxed);
  }
  void end() { state_.store(kFree, std::memory_order_release); }

  /* Does nothing if no call uses the object. Safe in a signal handler. */
  void cancel() {
    int state = kUsed;
    state_.compare_exchange_strong(state, kCancelled, std::memory_order_relaxed);
  }
  bool is_free() const { return state_.load(std::memory_order_acquire) == kFree; }
  bool cancelled() const { return state_.load(std::memory_order_relaxed) == kCancelled; }

 private:
  enum { kFree, kUsed, kCancelled };
  std::atomic<int> state_{kFree};
};

}  // namespace ek

#endif
