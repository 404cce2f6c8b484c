/* scalar: needs nothing. The definition of every kernel, in the order of the formula; not meant to be fast. */
#include "common.inl"

namespace {

float product(const Matrix &w, const QuantizedRow &row, int64_t n) {
  float sum = w.bias ? w.bias[n] : 0.0f;
  const uint8_t *codes = w.codes + n * w.row_bytes();
  for (int64_t b = 0; b < w.blocks(); ++b) {
    float block = 0.0f;
    for (int64_t k = b * w.block; k < (b + 1) * w.block; k += kGroup) {
      int32_t integer = 0;
      for (int64_t i = k; i < k + kGroup; ++i) {
        const int code = w.bits == 8 ? codes[i] : codes[i / 2] >> (i % 2 * 4) & 15;
        integer += code * row.values[value_index(i, w.bits)];
      }
      block += static_cast<float>(integer) * row.scales[k / kGroup];
    }
    sum += scale_at(w, n * w.blocks() + b) * (block - static_cast<float>(zero_point_at(w, n, b)) * row.sums[b]);
  }
  return sum;
}

void multiply_few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y,
                  int64_t stride) {
  for (int r = 0; r < m; ++r)
    for (int64_t n = first; n < last; ++n) y[r * stride + n] = product(w, rows[r], n);
}

void multiply_many(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y,
                   int64_t stride, void *) {
  multiply_few(w, rows, m, first, last, y, stride);
}

size_t multiply_many_scratch(const Matrix &) { return 0; }

}  // namespace

namespace ek {
extern const Kernels kScalar = {
    "scalar", quantize_row, multiply_few, multiply_many, multiply_many_scratch,
    rms_norm, silu_multiply, rotate,      attend,        to_half,
};
}  // namespace ek
