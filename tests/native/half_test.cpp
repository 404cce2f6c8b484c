/* Tests read_float and hadamard() against their definitions, and Buffer. */
#include <cmath>
#include <cstdint>
#include <vector>

#include "check.h"
#include "src/buffer.h"
#include "src/hadamard.h"
#include "src/half.h"

static void halves() {
  const uint16_t bits[] = {0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xc000, 0x7bff, 0x7c00, 0xfc00, 0x7e00};
  const double values[] = {0, -0.0, std::ldexp(1, -24), std::ldexp(1023, -24), std::ldexp(1, -14), 1, -2, 65504, INFINITY, -INFINITY};
  for (int i = 0; i < 10; ++i) {
    const float found = ek::read_float(bits, i, true);
    CHECK(static_cast<double>(found) == values[i] && std::signbit(found) == std::signbit(values[i]));
  }
  CHECK(std::isnan(ek::read_float(bits, 10, true)));
  const float floats[] = {1.5f, -3e38f};
  CHECK(ek::read_float(floats, 0, false) == 1.5f && ek::read_float(floats, 1, false) == -3e38f);
}

static void transform() {
  Random random{1};
  for (const int64_t n : {16, 48, 64, 80, 128, 256}) {
    const int64_t p = n & -n; /* each run of p numbers is transformed */
    std::vector<float> x(static_cast<size_t>(n));
    for (float &value : x) value = random.real();
    std::vector<float> y = x;
    ek::hadamard(y.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < p; ++j) {
        const bool odd = __builtin_popcountll(static_cast<unsigned long long>(i % p & j)) % 2;
        sum += (odd ? -1 : 1) * static_cast<double>(x[static_cast<size_t>(i / p * p + j)]);
      }
      CHECK(std::fabs(static_cast<double>(y[static_cast<size_t>(i)]) - sum / std::sqrt(static_cast<double>(p))) < 1e-5);
    }
    ek::hadamard(y.data(), n); /* its own inverse */
    for (size_t i = 0; i < x.size(); ++i) CHECK(std::fabs(x[i] - y[i]) < 1e-5f);
  }
}

static void buffers() {
  for (const size_t count : {size_t{1}, size_t{17}, size_t{100000}}) {
    const ek::Buffer<float> buffer(count);
    CHECK(reinterpret_cast<uintptr_t>(buffer.get()) % 64 == 0);
    for (size_t i = 0; i < count; ++i) CHECK(buffer[static_cast<int64_t>(i)] == 0.0f);
    buffer[static_cast<int64_t>(count) - 1] = 1.0f; /* the sanitizer checks the end */
  }
  CHECK(ek::Buffer<float>().get() == nullptr);
}

int main() {
  halves();
  transform();
  buffers();
  return finish("half_test");
}
