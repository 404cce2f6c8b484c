/* Prepares the next turn while the answer is read (ek_prepare), until it is stopped. */
#ifndef EDGEKIT_RUN_BACKGROUND_H
#define EDGEKIT_RUN_BACKGROUND_H

#include <atomic>
#include <chrono>
#include <functional>
#include <system_error>
#include <thread>

#include "edgekit.h"

namespace run {

class Background {
 public:
  ~Background() { stop(); }

  /* Do work that calls ek_prepare with this session. It is no error if no thread can be started. */
  void start(ek_session *session, std::function<void()> work) {
    stop();
    session_ = session;
    done_ = false;
    try {
      thread_ = std::thread([this, work = std::move(work)] {
        work();
        done_ = true;
      });
    } catch (const std::system_error &) {
    }
  }

  /* Returns when the session can be used again. */
  void stop() {
    if (!thread_.joinable()) return;
    while (!done_) { /* again and again, because the call may not have begun */
      ek_session_cancel(session_);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    thread_.join();
  }

 private:
  ek_session *session_ = nullptr;
  std::atomic<bool> done_{true};
  std::thread thread_;
};

}  // namespace run

#endif
