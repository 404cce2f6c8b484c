/* Tests a kernel table against the scalar one: odd sizes, tails, all formats, extreme values. The weights end at a page that
 * must not be accessed, so reading past the end of a matrix crashes the test. */
#ifndef EDGEKIT_TESTS_KERNEL_CHECKS_H
#define EDGEKIT_TESTS_KERNEL_CHECKS_H

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <iterator>
#include <vector>

#include "check.h"
#include "kernels/kernels.h"
#include "src/composition.h"
#include "src/half.h"

using namespace ek;

namespace {

/* Integer sums are exact, float sums have another order. Relative to the largest possible sum of absolute terms. */
constexpr float kSumOrder = 2e-7f;
/* bfloat16 has 8 significant bits, so rounding changes an activation by up to 2^-8 of its size: by 30 / 256 if the only column
 * is an outlier. */
[[maybe_unused]] constexpr float kBf16 = 0.12f;
/* In bfloat16, scores (of the order of 1), weights and values each have a relative error of about 2^-8. */
[[maybe_unused]] constexpr double kFloatAttention = 2e-5, kBf16Attention = 0.01;

Random random_numbers{7};

/* Bytes that end at the end of the last readable page. */
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
  /* The weight as a number. */
  float value(int64_t row, int64_t column) const {
    const Matrix &w = matrix;
    const uint8_t *at = w.codes + row * w.row_bytes();
    const int64_t b = column / w.block, zero_row = (w.blocks() * w.bits + 7) / 8;
    const int code = w.bits == 8 ? at[column] : at[column / 2] >> (column % 2 * 4) & 15;
    int zero = 1 << (w.bits - 1);
    if (w.zero_points)
      zero = w.bits == 8 ? w.zero_points[row * zero_row + b] : w.zero_points[row * zero_row + b / 2] >> (b % 2 * 4) & 15;
    return read_float(w.scales, row * w.blocks() + b, w.half_scales) * static_cast<float>(code - zero);
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

/* Bytes with the alignment of the scratch memory of a session. */
struct Aligned {
  std::vector<uint8_t> bytes;
  uint8_t *data;
  explicit Aligned(size_t size) : bytes(size + 64, 0x5a) {
    data = bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
  }
};

struct Rows {
  std::vector<int8_t> values;
  std::vector<float> scales, sums;
  std::vector<QuantizedRow> rows;
  Rows(int m, int64_t k)
      : values(static_cast<size_t>(m * padded_k(k)), 77), scales(static_cast<size_t>(m * padded_k(k) / kLeastBlock)),
        sums(scales.size(), NAN) /* after the blocks of a row there are NaNs */ {
    for (int r = 0; r < m; ++r)
      rows.push_back({&values[static_cast<size_t>(r * padded_k(k))], &scales[static_cast<size_t>(r * padded_k(k) / kLeastBlock)],
                      &sums[static_cast<size_t>(r * padded_k(k) / kLeastBlock)]});
  }
};

/* What is being compared, for the message of a failed check. */
struct Case {
  const Kernels &kernels;
  const Matrix &w;
  int m;
  float tolerance;

  void compare(const char *what, const std::vector<float> &found, const std::vector<float> &expected) const {
    int wrong = 0;
    float worst = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      const float error = std::fabs(found[i] - expected[i]);
      if (!(error <= tolerance)) ++wrong;
      if (!(error <= worst)) worst = error;
    }
    CHECK(wrong == 0);
    if (wrong)
      std::printf("  %s %s: %d of %zu products off, by at most %g where %g is allowed; (%lld, %lld) %d bits, block %d, %d rows\n", kernels.name,
                  what, wrong, found.size(), static_cast<double>(worst), static_cast<double>(tolerance),
                  static_cast<long long>(w.n), static_cast<long long>(w.k), w.bits, w.block, m);
  }
};

/* Random rows of activations with some outliers. */
std::vector<float> activations(int m, int64_t k, float magnitude) {
  std::vector<float> x(static_cast<size_t>(m * k));
  for (float &value : x) value = random_numbers.real() * magnitude * (random_numbers.below(50) ? 1.0f : 30.0f);
  return x;
}

void check_few(const Kernels &kernels, const Matrix &w, int m, const std::vector<float> &x, float tolerance) {
  Rows expected_rows(m, w.k), rows(m, w.k);
  const int64_t cut = padded_k(w.k) / kChunk / 2 * kChunk;
  for (int r = 0; r < m; ++r) {
    const float *from = &x[static_cast<size_t>(r * w.k)];
    kScalar.quantize_row(from, w.k, w.bits, w.block, 0, padded_k(w.k), expected_rows.rows[static_cast<size_t>(r)]);
    kernels.quantize_row(from, w.k, w.bits, w.block, cut, padded_k(w.k), rows.rows[static_cast<size_t>(r)]);
    kernels.quantize_row(from, w.k, w.bits, w.block, 0, cut, rows.rows[static_cast<size_t>(r)]);
  }
  CHECK(rows.values == expected_rows.values);
  std::vector<float> expected(static_cast<size_t>(m * w.n), 1.0f), found(expected.size(), 1.0f);
  const bool add = random_numbers.below(2);
  kScalar.multiply_few(w, expected_rows.rows.data(), m, 0, w.n, expected.data(), w.n, add);
  kernels.multiply_few(w, rows.rows.data(), m, 0, w.n / 3, found.data(), w.n, add);
  kernels.multiply_few(w, rows.rows.data(), m, w.n / 3, w.n, found.data(), w.n, add);
  Case{kernels, w, m, tolerance}.compare("few", found, expected);
  found.assign(found.size(), 1.0f);
  for (int r = 0; r < m; ++r) {
    const auto row = static_cast<size_t>(r);
    kernels.multiply_one(w, rows.rows[row], 0, w.n / 2, &found[row * static_cast<size_t>(w.n)], add);
    kernels.multiply_one(w, rows.rows[row], w.n / 2, w.n, &found[row * static_cast<size_t>(w.n)], add);
  }
  Case{kernels, w, m, tolerance}.compare("one", found, expected);
  if (!kernels.multiply_alike) return;
  std::vector<float> alike(found.size(), 1.0f); /* the same bits */
  kernels.multiply_alike(w, rows.rows.data(), m, 0, w.n / 3, alike.data(), w.n, add);
  kernels.multiply_alike(w, rows.rows.data(), m, w.n / 3, w.n, alike.data(), w.n, add);
  CHECK(std::memcmp(alike.data(), found.data(), alike.size() * sizeof(float)) == 0);
}

/* x (m, k) times w with the packs of the table. */
std::vector<float> many(const Kernels &kernels, const Matrix &w, int m, const std::vector<float> &x, bool add) {
  const size_t size = kernels.pack_bytes(w);
  CHECK(size % 64 == 0);
  Aligned packs(static_cast<size_t>((m + kPackRows - 1) / kPackRows) * size), scratch(kernels.multiply_many_scratch(w, m));
  const int64_t cut = w.k / 2 / kChunk * kChunk;
  for (int r = 0; r < m; r += kPackRows) {
    const float *from = &x[static_cast<size_t>(r * w.k)];
    const int count = m - r < kPackRows ? m - r : kPackRows;
    uint8_t *pack = packs.data + static_cast<size_t>(r / kPackRows) * size;
    kernels.pack(from + cut, w.k, count, w, cut, w.k, pack);
    if (cut) kernels.pack(from, w.k, count, w, 0, cut, pack);
  }
  std::vector<float> y(static_cast<size_t>(m * w.n), 1.0f);
  kernels.multiply_many(w, packs.data, m, 0, w.n / 3, y.data(), w.n, add, scratch.data);
  kernels.multiply_many(w, packs.data, m, w.n / 3, w.n, y.data(), w.n, add, scratch.data);
  return y;
}

/* float_error: 0, or the tolerance of a table whose packs are not int8, relative to the size of the terms. */
void products(const Kernels &kernels, int64_t n, int64_t k, int bits, int block, int m, float magnitude, float float_error) {
  Weights weights(n, k, bits, block, random_numbers.below(2), random_numbers.below(2), random_numbers.below(2));
  const Matrix &w = weights.matrix;
  const std::vector<float> x = activations(m, k, magnitude);
  /* The size of the terms: codes up to 255 or 15, scales up to 0.13, activations up to 30 times the magnitude. */
  const float size = static_cast<float>(k) * (bits == 8 ? 255.0f : 15.0f) * 0.13f * 30.0f * magnitude;
  if (m <= kMostFew) check_few(kernels, w, m, x, kSumOrder * size);
  const bool add = random_numbers.below(2);
  if (float_error == 0.0f) {
    Case{kernels, w, m, kSumOrder * size}.compare("many", many(kernels, w, m, x, add), many(kScalar, w, m, x, add));
    return;
  }
  std::vector<float> exact(static_cast<size_t>(m * n));
  for (int r = 0; r < m; ++r)
    for (int64_t i = 0; i < n; ++i) {
      double sum = (w.bias ? w.bias[i] : 0.0f) + (add ? 1.0f : 0.0f);
      for (int64_t c = 0; c < k; ++c) sum += static_cast<double>(x[static_cast<size_t>(r * k + c)]) * weights.value(i, c);
      exact[static_cast<size_t>(r * n + i)] = static_cast<float>(sum);
    }
  Case{kernels, w, m, float_error * magnitude * std::sqrt(static_cast<float>(k)) * (bits == 8 ? 255.0f : 15.0f) * 0.13f}.compare(
      "many", many(kernels, w, m, x, add), exact);
}

void elementwise(const Kernels &kernels) {
  for (int64_t n : {1, 15, 16, 17, 48, 576, 1000}) {
    const auto size = static_cast<size_t>(n);
    std::vector<float> x(size), y(size), a(size), b(size);
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
  }
}

/* Keys or values as a session stores them; at() returns the stored numbers. */
struct Cache {
  KvType type;
  int head_dim;
  std::vector<uint8_t> bytes;
  std::vector<float> scales;

  Cache(const Kernels &kernels, KvType t, bool keys, const std::vector<float> &rows, int64_t length, int dim)
      : type(t), head_dim(dim), bytes(static_cast<size_t>((length + kKvBlock - 1) / kKvBlock * kKvBlock * dim * 2)), scales(static_cast<size_t>(length + kKvBlock)) {
    const size_t item = type == KvType::kInt8 ? 1 : 2;
    for (int64_t t0 = 0; t0 < length; ++t0) {
      const int64_t at = keys ? t0 / kKeyLanes * kKeyLanes * dim + t0 % kKeyLanes : t0 * dim;
      kernels.store_kv(&rows[static_cast<size_t>(t0 * dim)], dim, type, &bytes[static_cast<size_t>(at) * item], keys ? kKeyLanes : 1,
                       &scales[static_cast<size_t>(t0)]);
    }
  }
  KvRows rows() const { return {bytes.data(), type == KvType::kInt8 ? scales.data() : nullptr}; }
  float at(bool keys, int64_t t, int64_t d) const {
    const int64_t i = keys ? (t / kKeyLanes * head_dim + d) * kKeyLanes + t % kKeyLanes : t * head_dim + d;
    if (type == KvType::kFloat16) return read_float(bytes.data(), i, true);
    return static_cast<float>(static_cast<int8_t>(bytes[static_cast<size_t>(i)])) * scales[static_cast<size_t>(t)];
  }
};

/* Queries and weights are rounded to 16 bits, with an error of up to 1.5e-5 of the largest: for scores near 6 and values near 1. */
constexpr double kWholeError = 6e-5;

/* `rise`: by how much all scores of a block of kKvBlock keys exceed those of the block before. */
void attention(const Kernels &kernels, int64_t m, int64_t group, int64_t length, int head_dim, KvType type, double tolerance, float rise = 0.0f) {
  const int64_t q_stride = group * head_dim + 5, y_stride = group * head_dim + 3;
  std::vector<float> q(static_cast<size_t>(m * q_stride)), k(static_cast<size_t>(length * head_dim)), v(k.size());
  for (float &x : q) x = random_numbers.real() * 3;
  for (float &x : k) x = random_numbers.real();
  for (float &x : v) x = random_numbers.real();
  if (rise != 0.0f) {
    for (int64_t i = 0; i < m * group; ++i) q[static_cast<size_t>(i / group * q_stride + i % group * head_dim)] = 4.0f;
    for (int64_t t = 0; t < length; ++t)
      k[static_cast<size_t>(t * head_dim)] = static_cast<float>(t / kKvBlock) * rise * std::sqrt(static_cast<float>(head_dim)) / 4.0f;
  }
  const Cache keys(kernels, type, true, k, length, head_dim), values(kernels, type, false, v, length, head_dim);
  for (size_t i = 0; i < k.size(); ++i) { /* within half a unit in the last place, or half a step of 1/127 */
    const auto t = static_cast<int64_t>(i) / head_dim, d = static_cast<int64_t>(i) % head_dim;
    if (rise == 0.0f) CHECK(std::fabs(keys.at(true, t, d) - k[i]) <= (type == KvType::kInt8 ? 0.00395f : 0.00025f));
    CHECK(std::fabs(values.at(false, t, d) - v[i]) <= (type == KvType::kInt8 ? 0.00395f : 0.00025f));
  }
  std::vector<float> y(static_cast<size_t>(m * y_stride), NAN), a(y), b(y);
  const auto rows = static_cast<size_t>(m * group);
  std::vector<float> largest(2 * rows), total(2 * rows);
  Aligned scratch(kernels.attend_scratch(head_dim, m * group));
  AttentionJob job = {q.data(), q_stride, m, group, type, keys.rows(), values.rows(), 0, length, length - m, head_dim, y.data(), y_stride, nullptr, nullptr};
  kernels.attend(job, scratch.data);
  const int64_t cut = length / 2 / kKvBlock * kKvBlock; /* compute the same in two parts */
  job.y = a.data(), job.end = cut, job.largest = &largest[0], job.total = &total[0];
  kernels.attend(job, scratch.data);
  job.y = b.data(), job.begin = cut, job.end = length, job.largest = &largest[rows], job.total = &total[rows];
  kernels.attend(job, scratch.data);
  double worst = 0;
  for (int64_t r = 0; r < m; ++r)
    for (int64_t g = 0; g < group; ++g) {
      const float *query = &q[static_cast<size_t>(r * q_stride + g * head_dim)];
      std::vector<double> sum(static_cast<size_t>(head_dim));
      double all = 0;
      for (int64_t t = 0; t < length - m + r + 1; ++t) {
        double score = 0;
        for (int i = 0; i < head_dim; ++i) score += static_cast<double>(query[i]) * keys.at(true, t, i);
        const double weight = std::exp(score / std::sqrt(static_cast<double>(head_dim)));
        all += weight;
        for (int i = 0; i < head_dim; ++i) sum[static_cast<size_t>(i)] += weight * values.at(false, t, i);
      }
      const auto row = static_cast<size_t>(r * group + g);
      const float most = std::fmax(largest[row], largest[rows + row]);
      const float wa = std::exp(largest[row] - most), wb = std::exp(largest[rows + row] - most);
      for (int i = 0; i < head_dim; ++i) {
        const auto at = static_cast<size_t>(r * y_stride + g * head_dim + i);
        const double expected = sum[static_cast<size_t>(i)] / all;
        const double parts = (wa * a[at] + wb * b[at]) / (wa * total[row] + wb * total[rows + row]);
        for (const double error : {std::fabs(y[at] - expected), std::fabs(parts - expected)})
          if (!(error <= worst)) worst = error;
      }
    }
  CHECK(worst <= tolerance);
  if (!(worst <= tolerance))
    std::printf("  %s attention: off by %g where %g is allowed; %lld rows, group %lld, %lld positions, head_dim %d, type %d, rise %g\n",
                kernels.name, worst, tolerance, static_cast<long long>(m), static_cast<long long>(group), static_cast<long long>(length),
                head_dim, static_cast<int>(type), static_cast<double>(rise));
}

/* Every format with every width and every number of rows. */
void check_products(const Kernels &kernels, float float_error) {
  for (int bits : {4, 8})
    for (int block : {32, 64, 128})
      for (int64_t k : {1, 31, 32, 33, 127, 128, 129, 200, 576, 1000})
        for (int m : {1, 2, 3, 4, 5, 8, 9, 13, 16, 30, 49})
          products(kernels, 1 + random_numbers.below(70), k, bits, block, m, m % 2 ? 1.0f : 100.0f, float_error);
  for (int bits : {4, 8}) products(kernels, 5, 33000, bits, 32, 3, 1.0f, float_error); /* more than fits on a stack */
  for (int bits : {4, 8}) /* rows that decode divides into slices */
    for (int block : {32, 128})
      for (int m : {1, 2, 3, 11}) products(kernels, 9 + random_numbers.below(9), m == 1 ? 17000 : 2200, bits, block, m, 1.0f, float_error);
}

/* Every type and head_dim with every group and every number of rows. */
void check_attention(const Kernels &kernels, double error) {
  for (KvType type : {KvType::kFloat16, KvType::kInt8})
    for (int head_dim : {16, 48, 64, 128, 256})
      for (int64_t group : {1, 3, 6, 7})
        for (int64_t m : {1, 2, 17, 40})
          attention(kernels, m, group, m + random_numbers.below(150), head_dim, type, error + (type == KvType::kInt8 ? kWholeError : 0.0));
  /* Weights are relative to the largest score so far. Here it grows with every block, or never after the first one. */
  for (KvType type : {KvType::kFloat16, KvType::kInt8})
    for (int64_t m : {1, 5, 40})
      for (float rise : {12.0f, -12.0f})
        attention(kernels, m, 6, 250, 64, type, error + (type == KvType::kInt8 ? 4 * kWholeError : 0.0), rise);
}

/* The functions that `table` itself provides; `complete` has the others, too. */
void check_parts(const Kernels &table, const Kernels &complete, float float_error, double attention_error) {
  if (provides(table, Role::kDecode) || provides(table, Role::kFewRows) || provides(table, Role::kPrefill))
    check_products(complete, float_error);
  if (provides(table, Role::kElementwise)) elementwise(complete);
  if (provides(table, Role::kAttention)) check_attention(complete, attention_error);
  if (provides(table, Role::kPrefill)) CHECK(table.spin(1000) >= 1000);
}

[[maybe_unused]] void check_table(const Kernels &kernels, float float_error, double attention_error) {
  check_parts(kernels, kernels, float_error, attention_error);
}

}  // namespace

#endif
