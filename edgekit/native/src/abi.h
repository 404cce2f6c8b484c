/* What the files that implement the C API share: the handles, and the translation of exceptions into statuses. */
#ifndef EDGEKIT_SRC_ABI_H
#define EDGEKIT_SRC_ABI_H

#include <memory>
#include <string>
#include <vector>

#include "../text/speculation.h"
#include "edgekit.h"
#include "error.h"
#include "handle.h"
#include "measure.h"
#include "model.h"
#include "session.h"
#include "topology.h"

namespace ek {

struct SessionObject {
  Session session;
  std::vector<int32_t> prepared; /* ids at the start of the next prompt (text/prepare.h) */
  Speculation speculation;
};

}  // namespace ek

struct ek_model : ek::HandleOf<const ek::Model, ek::Kind::kModel> {};
struct ek_session : ek::HandleOf<ek::SessionObject, ek::Kind::kSession> {};

namespace ek {

/* Store the text of ek_last_error for this thread, with U+FFFD for what is not UTF-8, such as a part of a path. Allocates nothing, so that it can say that there is no memory. */
void set_last_error(const char *text);

/* Called in a catch block: the status of the exception, whose message becomes the last error. */
int status_of_exception() noexcept;

/* Calls work() and returns EK_OK, or the status of the exception it threw. */
template <typename Work>
int guarded(Work work) noexcept {
  try {
    work();
    return EK_OK;
  } catch (...) {
    return status_of_exception();
  }
}

/* A number of an object that is not in use, or that may be read at any time; 0 if there is no object. */
template <typename H, typename Number>
int64_t number_of(const H *handle, Number number) {
  int64_t found = 0;
  if (handle) guarded([&] { found = number(*pinned(handle)); });
  return found;
}

/* A call that uses a session. Throws Error: EK_BUSY, EK_BAD_ARGUMENT, EK_FORKED. */
class InUse : public Using<ek_session> {
 public:
  explicit InUse(const ek_session &session) : Using(own(session)) {}

 private:
  static const ek_session &own(const ek_session &session);
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
