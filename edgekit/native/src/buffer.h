/* An array of numbers, aligned to a cache line and initialized to zero. */
#ifndef EDGEKIT_SRC_BUFFER_H
#define EDGEKIT_SRC_BUFFER_H

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "error.h"

namespace ek {

/* Allocated with calloc: the system provides pages when they are first written, so a KV cache takes the memory that is
 * used of it. */
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) : memory_(std::calloc(count * sizeof(T) + kLine, 1)) {
    if (!memory_) fail(EK_NO_MEMORY, "cannot allocate %zu bytes", count * sizeof(T));
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    data_ = reinterpret_cast<T *>((address + kLine - 1) / kLine * kLine);
  }
  T *get() const { return data_; }
  T &operator[](int64_t index) const { return data_[index]; }

 private:
  static constexpr size_t kLine = 64;
  struct Free {
    void operator()(void *p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> memory_;
  T *data_ = nullptr;
};

}  // namespace ek

#endif
