/* Every kernel table this processor runs, against the scalar one: odd sizes, tails, all formats, extreme values. The
 * weights end where a page that may not be touched begins, so that a read past a matrix's end is a crash here. */
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "kernels/kernels.h"

using namespace ek;

namespace {

/* Integer parts are exact; float sums run in another order. Relative to the largest absolute sum of the terms. */
constexpr float kSumOrder = 2e-7f;

Random random_numbers{7};

/* Bytes whose end is the end of the last page that may be read. */
struct Fenced {
  uint8_t *base, *data;
  size_t length;
  explicit Fenced(size_t size) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    length = (size + page - 1) / page * page + page;
    base = static_cast<uint8_t *>(mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK(base != MAP_FAILED && mprotect(base + length - page, page, PROT_NONE) == 0);
    data = base + length - page - size;
  }
  ~Fenced() { munmap(base, length); }
  Fenced(const Fenced &) = delete;
  Fenced &operator=(const Fenced &) = delete;
};

struct Weights {
  Matrix matrix;
  Fenced codes, scales, zeros;
  std::vector<float> bias;

  Weights(int64_t n, int64_t k, int bits, int block, bool half, bool symmetric, bool biased)
      : codes(static_cast<size_t>(n * shape(n, k, bits, block).row_bytes())),
        scales(static_cast<size_t>(n * shape(n, k, bits, block).blocks() * (half ? 2 : 4))),
        zeros(static_cast<size_t>(n * ((shape(n, k, bits, block).blocks() * bits + 7) / 8))) {
    matrix = shape(n, k, bits, block);
    const int64_t blocks = matrix.blocks();
    for (int64_t i = 0; i < n * matrix.row_bytes(); ++i) codes.data[i] = static_cast<uint8_t>(random_numbers.next());
    for (int64_t i = 0; i < n * blocks; ++i) {
      const float scale = random_numbers.real() * 0.1f;
      if (half) {
        const uint16_t bits16 = static_cast<uint16_t>(0x2000 | random_numbers.below(0x0fff) | (scale < 0 ? 0x8000 : 0));
        std::memcpy(scales.data + 2 * i, &bits16, 2);
      } else {
        std::memcpy(scales.data + 4 * i, &scale, 4);
      }
    }
    for (int64_t i = 0; i < n * ((blocks * bits + 7) / 8); ++i) zeros.data[i] = static_cast<uint8_t>(random_numbers.next());
    for (int64_t i = 0; i < n; ++i) bias.push_back(random_numbers.real());
    matrix.codes = codes.data;
    matrix.scales = scales.data;
    matrix.half_scales = half;
    if (!symmetric) matrix.zero_points = zeros.data;
    if (biased) matrix.bias = bias.data();
  }
  static Matrix shape(int64_t n, int64_t k, int bits, int block) {
    Matrix w;
    w.n = n;
    w.k = k;
    w.bits = bits;
    w.block = block;
    return w;
  }
};

struct Rows {
  std::vector<int8_t> values;
  std::vector<float> scales, sums;
  std::vector<QuantizedRow> rows;
  Rows(int m, int64_t k) : values(static_cast<size_t>(m * padded_k(k) + 64), 77), scales(static_cast<size_t>(m * padded_k(k) / kGroup + 16)), sums(scales.size()) {
    for (int r = 0; r < m; ++r)
      rows.push_back({&values[static_cast<size_t>(r * padded_k(k))], &scales[static_cast<size_t>(r * padded_k(k) / kGroup)],
                      &sums[static_cast<size_t>(r * padded_k(k) / kGroup)]});
  }
};

void products(const Kernels &kernels, int64_t n, int64_t k, int bits, int block, int m, float magnitude) {
  Weights weights(n, k, bits, block, random_numbers.below(2), random_numbers.below(2), random_numbers.below(2));
  const Matrix &w = weights.matrix;
  Rows expected_rows(m, k), rows(m, k);
  for (int r = 0; r < m; ++r) {
    std::vector<float> x(static_cast<size_t>(k));
    for (float &value : x) value = random_numbers.real() * magnitude * (random_numbers.below(50) ? 1.0f : 30.0f);
    kScalar.quantize_row(x.data(), k, bits, block, expected_rows.rows[static_cast<size_t>(r)]);
    kernels.quantize_row(x.data(), k, bits, block, rows.rows[static_cast<size_t>(r)]);
  }
  CHECK(std::memcmp(rows.values.data(), expected_rows.values.data(), rows.values.size()) == 0);
  std::vector<float> expected(static_cast<size_t>(m * n)), found(expected.size(), NAN);
  kScalar.multiply_few(w, expected_rows.rows.data(), m, 0, n, expected.data(), n);
  /* The terms' size: codes to 255 or 15, a scale of at most 0.13, activations to 30 times the magnitude. */
  const float size = static_cast<float>(k) * (bits == 8 ? 255.0f : 15.0f) * 0.13f * 30.0f * magnitude;
  const int64_t cut = n / 3;
  if (m <= 8) {
    kernels.multiply_few(w, rows.rows.data(), m, 0, cut, found.data(), n);
    kernels.multiply_few(w, rows.rows.data(), m, cut, n, found.data(), n);
    for (size_t i = 0; i < found.size(); ++i) CHECK(std::fabs(found[i] - expected[i]) <= kSumOrder * size);
  }
  std::vector<uint8_t> scratch(kernels.multiply_many_scratch(w) + 1);
  std::fill(found.begin(), found.end(), NAN);
  kernels.multiply_many(w, rows.rows.data(), m, 0, cut, found.data(), n, scratch.data());
  kernels.multiply_many(w, rows.rows.data(), m, cut, n, found.data(), n, scratch.data());
  int wrong = 0;
  for (size_t i = 0; i < found.size(); ++i) wrong += !(std::fabs(found[i] - expected[i]) <= kSumOrder * size);
  CHECK(wrong == 0);
  if (wrong) std::printf("  %s: %d of %zu products, (%lld, %lld) %d bits, block %d, %d rows\n", kernels.name, wrong, found.size(),
                         static_cast<long long>(n), static_cast<long long>(k), bits, block, m);
}

void elementwise(const Kernels &kernels) {
  for (int64_t n : {1, 15, 16, 17, 48, 576, 1000}) {
    const auto size = static_cast<size_t>(n);
    std::vector<float> x(size), y(size), a(size), b(size);
    std::vector<uint16_t> ha(size), hb(size);
    for (size_t i = 0; i < size; ++i) {
      x[i] = random_numbers.real() * (i % 7 ? 3.0f : 90.0f);
      y[i] = random_numbers.real();
    }
    kScalar.rms_norm(x.data(), y.data(), n, 1e-6f, a.data());
    kernels.rms_norm(x.data(), y.data(), n, 1e-6f, b.data());
    for (size_t i = 0; i < size; ++i) CHECK(std::fabs(a[i] - b[i]) <= 1e-5f);
    kernels.silu_multiply(x.data(), y.data(), n, b.data());
    for (size_t i = 0; i < size; ++i) {
      const double exact = x[i] / (1.0 + std::exp(-static_cast<double>(x[i]))) * y[i];
      CHECK(std::fabs(b[i] - exact) <= 1e-6 * std::fabs(exact) + 1e-30);
    }
    kScalar.to_half(x.data(), n, ha.data());
    kernels.to_half(x.data(), n, hb.data());
    CHECK(ha == hb);
  }
}

void attention(const Kernels &kernels, int64_t m, int64_t group, int64_t length, int head_dim) {
  const int64_t q_stride = group * head_dim + 5, y_stride = group * head_dim + 3;
  std::vector<float> q(static_cast<size_t>(m * q_stride)), keys(static_cast<size_t>(length * head_dim)), values(keys.size());
  std::vector<float> y(static_cast<size_t>(m * y_stride), NAN);
  std::vector<uint16_t> half_keys(keys.size()), half_values(keys.size());
  for (float &x : q) x = random_numbers.real() * 3;
  for (size_t i = 0; i < keys.size(); ++i) { /* multiples of 1/64: exact in float16 */
    keys[i] = static_cast<float>(random_numbers.below(129) - 64) / 64.0f;
    values[i] = static_cast<float>(random_numbers.below(129) - 64) / 64.0f;
  }
  kernels.to_half(keys.data(), length * head_dim, half_keys.data());
  kernels.to_half(values.data(), length * head_dim, half_values.data());
  kernels.attend({q.data(), q_stride, m, group, half_keys.data(), half_values.data(), length, head_dim, y.data(), y_stride});
  for (int64_t r = 0; r < m; ++r)
    for (int64_t g = 0; g < group; ++g) {
      const float *query = &q[static_cast<size_t>(r * q_stride + g * head_dim)];
      std::vector<double> weight(static_cast<size_t>(length - m + r + 1)), sum(static_cast<size_t>(head_dim));
      double total = 0;
      for (size_t t = 0; t < weight.size(); ++t) {
        double score = 0;
        for (int i = 0; i < head_dim; ++i) score += static_cast<double>(query[i]) * keys[t * static_cast<size_t>(head_dim) + static_cast<size_t>(i)];
        total += weight[t] = std::exp(score / std::sqrt(static_cast<double>(head_dim)));
        for (int i = 0; i < head_dim; ++i) sum[static_cast<size_t>(i)] += weight[t] * values[t * static_cast<size_t>(head_dim) + static_cast<size_t>(i)];
      }
      for (int i = 0; i < head_dim; ++i)
        CHECK(std::fabs(y[static_cast<size_t>(r * y_stride + g * head_dim + i)] - sum[static_cast<size_t>(i)] / total) <= 2e-5);
    }
}

void check_table(const Kernels &kernels) {
  for (int bits : {4, 8})
    for (int block : {32, 64, 128})
      for (int64_t k : {1, 31, 32, 33, 127, 128, 129, 200, 576, 1000})
        for (int m : {1, 2, 3, 5, 8, 9, 13, 30}) products(kernels, 1 + random_numbers.below(40), k, bits, block, m, m % 2 ? 1.0f : 100.0f);
  elementwise(kernels);
  for (int head_dim : {16, 48, 64, 128})
    for (int64_t group : {1, 3, 6})
      for (int64_t m : {1, 2, 17, 40}) attention(kernels, m, group, m + random_numbers.below(90), head_dim);
}

}  // namespace

int main() {
  check_table(kScalar);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) check_table(kAvx2);
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    check_table(kAvx512Vnni);
  else
    std::puts("this processor has no AVX-512 VNNI: that table was not run");
#endif
  return finish("kernels_test");
}
