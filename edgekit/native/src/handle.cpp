#include "handle.h"

#include <mutex>

#include "error.h"
#include "process.h"

namespace ek {
namespace {

constexpr int kKept = 512; /* freed handles that are not used again yet */
constexpr const char *kNames[] = {"handle", "model", "session", "text", "stream", "watch"};

/* The freed handles, the oldest one first. Guarded by short_mutex(). */
Handle *first = nullptr, *last = nullptr;
int freed = 0;

/* Whether a call that did not come along when this process was forked uses the object: it will never end here. */
bool used_before_fork(const Handle &handle) { return !handle.usage.is_free() && handle.process != forks(); }

}  // namespace

Handle *new_handle() {
  {
    const std::lock_guard<std::mutex> lock(short_mutex());
    if (freed > kKept && (first->usage.is_free() || used_before_fork(*first))) {
      first->usage.end();
      Handle *handle = first;
      first = handle->next;
      handle->next = nullptr;
      --freed;
      return handle;
    }
  }
  return new Handle;
}

void fill_handle(Handle *handle, Kind kind, std::shared_ptr<void> object) {
  const std::lock_guard<std::mutex> lock(short_mutex());
  handle->kind = kind;
  handle->object = std::move(object);
  handle->process = forks();
}

void free_handle(Handle *handle, Kind kind) {
  std::shared_ptr<void> object; /* destroyed when the lock is released */
  const std::lock_guard<std::mutex> lock(short_mutex());
  if (!handle || handle->kind != kind) return;
  object.swap(handle->object);
  handle->kind = Kind::kNone;
  handle->usage.cancel();
  (last && freed ? last->next : first) = handle;
  last = handle;
  ++freed;
}

std::shared_ptr<void> object_of(const Handle *handle, Kind kind, bool uses) {
  const std::lock_guard<std::mutex> lock(short_mutex());
  const char *name = kNames[static_cast<int>(kind)];
  if (handle->kind != kind) fail(EK_BAD_ARGUMENT, "this %s was freed; create another one", name);
  if (!uses) return handle->object;
  auto &used = *const_cast<Handle *>(handle);
  if (used_before_fork(*handle))
    fail(EK_FORKED, "this process is a fork, and a call of its parent was using this %s; create another one", name);
  if (!used.usage.begin())
    fail(EK_BUSY, "another call uses this %s; wait for it or cancel it, or create a %s for each thread", name, name);
  used.process = forks();
  return handle->object;
}

}  // namespace ek
