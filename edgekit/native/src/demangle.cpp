/* Part of what `edgekit compile` makes. LLVM's C++ library calls __cxa_demangle in one place, to print the type of an exception
 * that nobody catches before it ends the process. With this one it prints the mangled name, and its demangler, 150 KB, is not
 * linked in. */
#include <cstddef>

extern "C" __attribute__((visibility("hidden"))) char *__cxa_demangle(const char *, char *, size_t *, int *status) {
  if (status) *status = -1;
  return nullptr;
}
