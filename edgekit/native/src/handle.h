/* What the pointers of the C API point to. A handle is never freed: it keeps its address and says that its object is gone, so that
 * a function that is called with it is an error and not undefined. It is used again after some hundred others. */
#ifndef EDGEKIT_SRC_HANDLE_H
#define EDGEKIT_SRC_HANDLE_H

#include <cstdint>
#include <memory>
#include <utility>

#include "usage.h"

namespace ek {

enum class Kind : uint8_t { kNone, kModel, kSession, kText, kStream, kWatch };

struct Handle {
  std::shared_ptr<void> object; /* guarded by short_mutex(), like `kind` and `next` */
  Usage usage;                  /* of objects that one call at a time uses */
  int process = 0;              /* forks() when it was made, or when the latest use began; guarded as well */
  Kind kind = Kind::kNone;      /* kNone: freed */
  Handle *next = nullptr;       /* among the freed ones */
};

/* A handle without an object. Throws std::bad_alloc. */
Handle *new_handle();
/* Give a handle its object. */
void fill_handle(Handle *handle, Kind kind, std::shared_ptr<void> object);
/* Free the object, or let the call that uses it do so, which is cancelled. Does nothing for a handle that was freed, or that is
 * NULL. */
void free_handle(Handle *handle, Kind kind);
/* The object, which lives as long as the result does. uses: also begin to use it. Throws Error: EK_BAD_ARGUMENT if the handle was
 * freed, EK_BUSY if another call uses the object, EK_FORKED if that call is one of the process that this one is a fork of. */
std::shared_ptr<void> object_of(const Handle *handle, Kind kind, bool uses);

/* A kind of handle, with the type of its objects. */
template <typename T, Kind its_kind>
struct HandleOf : Handle {
  using Object = T;
  static constexpr Kind kKind = its_kind;
};

/* The object of a handle. Throws Error. */
template <typename H>
std::shared_ptr<typename H::Object> pinned(const H *handle) {
  return std::static_pointer_cast<typename H::Object>(object_of(handle, H::kKind, false));
}

/* A new handle with the object that make(usage) returns. */
template <typename H, typename Make>
H *made(Make make) {
  Handle *handle = new_handle();
  try {
    fill_handle(handle, H::kKind, make(handle->usage));
  } catch (...) {
    fill_handle(handle, H::kKind, nullptr);
    free_handle(handle, H::kKind);
    throw;
  }
  return static_cast<H *>(handle);
}

/* A call that uses an object. Throws Error. */
template <typename H>
class Using {
 public:
  explicit Using(const H &handle)
      : usage_(const_cast<H &>(handle).usage), object_(std::static_pointer_cast<typename H::Object>(object_of(&handle, H::kKind, true))) {}
  ~Using() { usage_.end(); }
  Using(const Using &) = delete;
  Using &operator=(const Using &) = delete;
  typename H::Object &operator*() const { return *object_; }
  typename H::Object *operator->() const { return object_.get(); }

 private:
  Usage &usage_;
  std::shared_ptr<typename H::Object> object_;
};

}  // namespace ek

#endif
