/* What the files that implement the C API share: the handles, and the translation of exceptions into statuses. */
#ifndef EDGEKIT_SRC_ABI_H
#define EDGEKIT_SRC_ABI_H

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "../text/speculation.h"
#include "edgekit.h"
#include "error.h"
#include "measure.h"
#include "model.h"
#include "session.h"
#include "topology.h"

struct ek_model {
  std::shared_ptr<const ek::Model> model;
};

struct ek_session {
  ek::Session session;
  /* Guarded like the session: */
  std::vector<int32_t> prepared; /* ids at the start of the next prompt (text/prepare.h) */
  ek::Speculation speculation;
};

namespace ek {

/* The text of ek_last_error, one for each thread. */
std::string &last_error();

/* Calls work() and returns EK_OK, or the status of the exception it threw, whose message becomes last_error(). */
template <typename Work>
int guarded(Work work) {
  try {
    work();
    return EK_OK;
  } catch (const Error &error) {
    last_error() = error.what();
    return error.status;
  } catch (const std::bad_alloc &) {
    last_error() = "not enough memory";
    return EK_NO_MEMORY;
  } catch (const std::exception &error) {
    last_error() = error.what();
    return EK_INTERNAL;
  }
}

/* A call that uses a session. Throws Error(EK_BUSY) if another call does. */
class InUse {
 public:
  explicit InUse(const ek_session &session) : usage_(session.session.usage()) {
    if (!usage_.begin())
      fail(EK_BUSY, "another call uses this session; wait for it or cancel it, or create a session for each thread");
  }
  ~InUse() { usage_.end(); }
  InUse(const InUse &) = delete;
  InUse &operator=(const InUse &) = delete;

 private:
  Usage &usage_;
};

/* Throws Error(EK_BAD_ARGUMENT) with this message unless `good`. */
inline void need(bool good, const char *message) {
  if (!good) fail(EK_BAD_ARGUMENT, "%s", message);
}

/* The number of threads to use for the argument `threads` of a function: 0 is the recommended number. */
inline int checked_threads(int threads) {
  if (threads < 0 || threads > kMostThreads)
    fail(EK_BAD_ARGUMENT, "%d threads were requested; allowed: 0 (one per core) to %d", threads, kMostThreads);
  return threads ? threads : this_topology().threads;
}

}  // namespace ek

#endif
