/* Tests multiply() against the formula in double: the decode and prefill paths, more rows and outputs than a kernel call takes,
 * and its errors. */
#include "src/product.h"

#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "src/error.h"

namespace {

constexpr int kBlock = 32;

struct Product {
  int64_t n, k, blocks = (k + kBlock - 1) / kBlock;
  std::vector<uint8_t> codes = std::vector<uint8_t>(static_cast<size_t>(n * blocks * kBlock / 2));
  std::vector<float> scales = std::vector<float>(static_cast<size_t>(n * blocks)), bias = std::vector<float>(static_cast<size_t>(n));
  Random random{9};

  Product(int64_t outputs, int64_t inputs) : n(outputs), k(inputs) {
    for (uint8_t &byte : codes) byte = static_cast<uint8_t>(random.next());
    for (float &scale : scales) scale = random.real();
    for (float &x : bias) x = random.real();
  }
  ek_matrix matrix() const { return {codes.data(), scales.data(), nullptr, bias.data(), n, k, 4, kBlock, EK_FLOAT32}; }
  double weight(int64_t row, int64_t column) const {
    const uint8_t byte = codes[static_cast<size_t>(row * blocks * kBlock / 2 + column / 2)];
    const int code = column % 2 ? byte >> 4 : byte & 15;
    return static_cast<double>(scales[static_cast<size_t>(row * blocks + column / kBlock)]) * (code - 8);
  }

  /* Activations are multiples of 1/127 with a largest magnitude of 1 in each group, so that rounding to int8 is exact. */
  void check(int64_t m, bool prefill) {
    std::vector<float> x(static_cast<size_t>(m * k)), y(static_cast<size_t>(m * n), NAN);
    for (int64_t i = 0; i < m * k; ++i)
      x[static_cast<size_t>(i)] = i % k % kBlock == 0 ? 1.0f : static_cast<float>(random.below(255) - 127) / 127.0f;
    ek::multiply("scalar", matrix(), x.data(), m, prefill, y.data());
    double worst = 0;
    for (int64_t r = 0; r < m; ++r)
      for (int64_t i = 0; i < n; ++i) {
        double sum = static_cast<double>(bias[static_cast<size_t>(i)]);
        for (int64_t c = 0; c < k; ++c) sum += static_cast<double>(x[static_cast<size_t>(r * k + c)]) * weight(i, c);
        const double error = std::fabs(static_cast<double>(y[static_cast<size_t>(r * n + i)]) - sum);
        if (!(error <= worst)) worst = error;
      }
    CHECK(worst <= 1e-6 * 8 * static_cast<double>(k)); /* float sums of k terms of up to 8 */
  }
};

std::string refused(const char *kernel, ek_matrix w, int64_t m, ek_status status) {
  std::vector<float> x(1024), y(1024);
  try {
    ek::multiply(kernel, w, x.data(), m, false, y.data());
    return "";
  } catch (const ek::Error &error) {
    CHECK(error.status == status);
    return error.what();
  }
}

}  // namespace

int main() {
  for (const bool prefill : {false, true})
    for (const int64_t m : {1, 8, 9, 17}) Product(37, 70).check(m, prefill);
  Product(300, 33).check(3, true); /* more outputs than a call of multiply_many takes */
  Product(2, 40).check(530, false); /* more rows */
  const Product product(3, 33);
  ek_matrix w = product.matrix();
  CHECK(refused("scalar", w, 1, EK_OK).empty());
  CHECK(refused("mmx", w, 1, EK_UNSUPPORTED).find("cannot use the kernel 'mmx'") == 0);
  CHECK(refused(nullptr, w, 0, EK_BAD_ARGUMENT) == "cannot multiply 0 rows of activations; allowed: 1 to 16777216");
  w.block_size = 48;
  CHECK(refused(nullptr, w, 1, EK_BAD_ARGUMENT).find("block size of 48") != std::string::npos);
  return finish("product_test");
}
