#include "product.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <string>
#include <vector>

#include "buffer.h"
#include "choice.h"
#include "cpu.h"
#include "error.h"

namespace ek {
namespace {

constexpr int64_t kManyRows = 512;  /* with kMostOutputs outputs, the sums of multiply_many take 512 KB */
constexpr int64_t kMostRows = 1 << 24, kMostColumns = 1 << 17; /* the limits of model.cpp */

const Kernels &named_kernels(const char *name) {
  if (!name) return choose_kernels();
  std::string usable;
  for (const Kernels &kernels : complete_kernels()) {
    if (std::strcmp(kernels.name, name) == 0) return kernels;
    usable += std::string(usable.empty() ? "" : ", ") + kernels.name;
  }
  fail(EK_UNSUPPORTED, "cannot use the kernel '%s'; this processor supports %s", name, usable.c_str());
}

Matrix checked(const ek_matrix &given) {
  const int64_t n = given.n, k = given.k;
  const int bits = given.bits, block = given.block_size, type = given.scale_dtype;
  if (n < 1 || n > kMostRows)
    fail(EK_BAD_ARGUMENT, "cannot multiply with a matrix of %" PRId64 " rows; allowed: 1 to %" PRId64, n, kMostRows);
  if (k < 1 || k > kMostColumns)
    fail(EK_BAD_ARGUMENT, "cannot multiply with a matrix of %" PRId64 " columns; allowed: 1 to %" PRId64, k, kMostColumns);
  if (bits != 4 && bits != 8) fail(EK_BAD_ARGUMENT, "cannot multiply with codes of %d bits; allowed: 4 or 8", bits);
  if (block != 32 && block != 64 && block != 128)
    fail(EK_BAD_ARGUMENT, "cannot multiply with a block size of %d; allowed: 32, 64 or 128", block);
  if (type != EK_FLOAT32 && type != EK_FLOAT16)
    fail(EK_BAD_ARGUMENT,
         "cannot multiply with scales of type %d; allowed: EK_FLOAT32 (%d) or EK_FLOAT16 (%d)", type, EK_FLOAT32, EK_FLOAT16);
  if (!given.codes || !given.scales) fail(EK_BAD_ARGUMENT, "the codes and scales of a matrix must not be NULL");
  const size_t item = type == EK_FLOAT16 ? 2 : 4;
  if (reinterpret_cast<uintptr_t>(given.scales) % item)
    fail(EK_BAD_ARGUMENT, "the scales of the matrix are misaligned; their address must be a multiple of %zu bytes", item);
  Matrix w;
  w.codes = given.codes;
  w.scales = given.scales;
  w.zero_points = given.zero_points;
  w.bias = given.bias;
  w.n = n;
  w.k = k;
  w.bits = bits;
  w.block = block;
  w.half_scales = type == EK_FLOAT16;
  return w;
}

/* Up to kMostFew rows of x (m, k). */
void multiply_few(const Kernels &kernels, const Matrix &w, const float *x, int64_t m, float *y) {
  const auto rows = static_cast<size_t>(m), padded = static_cast<size_t>(padded_k(w.k));
  std::vector<int8_t> values(rows * padded);
  const size_t blocks = padded / static_cast<size_t>(w.block);
  std::vector<float> scales(rows * blocks), sums(rows * blocks);
  std::vector<QuantizedRow> quantized;
  for (size_t r = 0; r < rows; ++r) {
    quantized.push_back({&values[r * padded], &scales[r * blocks], &sums[r * blocks]});
    kernels.quantize_row(x + static_cast<int64_t>(r) * w.k, w.k, w.bits, w.block, 0, padded_k(w.k), quantized[r]);
  }
  if (m == 1) return kernels.multiply_one(w, quantized[0], 0, w.n, y, false);
  kernels.multiply_few(w, quantized.data(), static_cast<int>(m), 0, w.n, y, w.n, false);
}

/* Up to kManyRows rows of x (m, k). */
void multiply_many(const Kernels &kernels, const Matrix &w, const float *x, int64_t m, float *y) {
  const size_t pack = kernels.pack_bytes(w);
  const Buffer<uint8_t> packs(static_cast<size_t>((m + kPackRows - 1) / kPackRows) * pack);
  const Buffer<uint8_t> scratch(kernels.multiply_many_scratch(w, m));
  for (int64_t r = 0; r < m; r += kPackRows)
    kernels.pack(x + r * w.k, w.k, static_cast<int>(std::min<int64_t>(m - r, kPackRows)), w, 0, w.k,
                 packs.get() + static_cast<size_t>(r / kPackRows) * pack);
  for (int64_t n = 0; n < w.n; n += kMostOutputs)
    kernels.multiply_many(w, packs.get(), m, n, std::min(n + kMostOutputs, w.n), y, w.n, false, scratch.get());
}

}  // namespace

void multiply(const char *kernel, const ek_matrix &given, const float *x, int64_t m, bool prefill, float *y) {
  const Matrix w = checked(given);
  if (m < 1 || m > kMostRows)
    fail(EK_BAD_ARGUMENT, "cannot multiply %" PRId64 " rows of activations; allowed: 1 to %" PRId64, m, kMostRows);
  const Kernels &kernels = named_kernels(kernel);
  if (m <= kMostFew && !prefill) return multiply_few(kernels, w, x, m, y);
  for (int64_t r = 0; r < m; r += kManyRows)
    multiply_many(kernels, w, x + r * w.k, std::min(m - r, kManyRows), y + r * w.n);
}

}  // namespace ek
