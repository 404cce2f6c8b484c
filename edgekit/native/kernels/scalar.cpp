/* scalar: needs no extension. The reference implementation: it follows the formulas term by term and is not optimized. */
#include "common.inl"
#include "attention.inl"

namespace {

/* Output n for one row of activations: value(k) is column k in int8, scale(b) and sum(b) belong to block b. */
template <typename Value, typename Scale, typename Sum>
inline float product(const Matrix &w, int64_t n, Value value, Scale scale, Sum sum) {
  float total = w.bias ? w.bias[n] : 0.0f;
  const uint8_t *codes = w.codes + n * w.row_bytes();
  for (int64_t b = 0; b < w.blocks(); ++b) {
    int32_t integer = 0;
    for (int64_t k = b * w.block; k < (b + 1) * w.block; ++k) {
      const int code = w.bits == 8 ? codes[k] : codes[k / 2] >> (k % 2 * 4) & 15;
      integer += code * value(k);
    }
    const float block = static_cast<float>(integer) * scale(b);
    total += scale_at(w, n * w.blocks() + b) * (block - static_cast<float>(zero_point_at(w, n, b)) * sum(b));
  }
  return total;
}

void multiply_few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y,
                  int64_t stride, bool add) {
  for (int r = 0; r < m; ++r)
    for (int64_t n = first; n < last; ++n) {
      const QuantizedRow &row = rows[r];
      const float total = product(w, n, [&](int64_t k) { return row.values[value_index(k, w.bits)]; },
                                  [&](int64_t b) { return row.scales[b]; }, [&](int64_t b) { return row.sums[b]; });
      y[r * stride + n] = add ? y[r * stride + n] + total : total;
    }
}

void multiply_one(const Matrix &w, const QuantizedRow &row, int64_t first, int64_t last, float *y, bool add) {
  multiply_few(w, &row, 1, first, last, y, 0, add);
}

/* The index of column k of row 0 in Int8Pack::values. */
inline int64_t pack_index(int64_t k, int bits) {
  const int64_t step = bits == 8 ? k / 4 : k / 8 * 2 + k % 2, byte = bits == 8 ? k % 4 : k % 8 / 2;
  return step * kPackRows * 4 + byte;
}

void multiply_many(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y, int64_t stride,
                   bool add, uint8_t *) {
  for (int64_t row = 0; row < m; ++row) {
    const Int8Pack pack(packs + row / kPackRows * static_cast<int64_t>(int8_pack_bytes(w)), w);
    const int64_t r = row % kPackRows;
    for (int64_t n = first; n < last; ++n) {
      const float total = product(w, n, [&](int64_t k) { return pack.values[pack_index(k, w.bits) + 4 * r]; },
                                  [&](int64_t b) { return pack.scales[b * kPackRows + r]; },
                                  [&](int64_t b) { return pack.sums[b * kPackRows + r]; });
      y[row * stride + n] = add ? y[row * stride + n] + total : total;
    }
  }
}

size_t multiply_many_scratch(const Matrix &, int64_t) { return 0; }

/* One multiply-add after another: the rate of code without vector instructions. */
int64_t spin(int64_t iterations) {
  volatile int32_t sink;
  int32_t sum = 0, code = 3;
  for (int64_t i = 0; i < iterations; ++i) {
    sum += code * static_cast<int8_t>(i);
    __asm__ __volatile__("" : "+r"(sum), "+r"(code)); /* prevents folding and vectorization */
  }
  sink = sum;
  (void)sink;
  return iterations;
}

}  // namespace

namespace ek {
extern const Kernels kScalar = {
    "scalar",  quantize_row,  multiply_one,          multiply_few, int8_pack_bytes,
    int8_pack, multiply_many, multiply_many_scratch, rms_norm,     silu_multiply,
    rotate,    store_kv,      attend,                attend_scratch, spin,
    false,     32, /* weights are unpacked for each row, and a task of 512 rows would take a second */
};
}  // namespace ek
