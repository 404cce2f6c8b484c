/* CHECK(condition) prints and counts failed conditions; finish() returns the exit code of a test. */
#ifndef EDGEKIT_TESTS_CHECK_H
#define EDGEKIT_TESTS_CHECK_H

#include <cstdint>
#include <cstdio>

static int failures = 0;

#define CHECK(condition)                                               \
  do {                                                                 \
    if (!(condition)) {                                                \
      std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);      \
      ++failures;                                                      \
    }                                                                  \
  } while (0)

/* A small random generator with the same numbers on every machine. */
struct Random {
  uint32_t state;
  uint32_t next() {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
  }
  /* From -1 to 1. */
  float real() { return static_cast<float>(next()) / 8388608.0f - 1.0f; }
  int below(int count) { return static_cast<int>(next() % static_cast<uint32_t>(count)); }
};

static inline int finish(const char *name) {
  if (failures == 0) std::printf("%s: all checks passed\n", name);
  return failures == 0 ? 0 : 1;
}

#endif
