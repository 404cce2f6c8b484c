/* The arithmetic of the engine as a table of plain functions, one table per instruction set.
 *
 * A kernel file is compiled with its own flags, uses no STL and only file-local helpers, and exports one symbol: its
 * table. scalar.cpp defines what every other table must compute (tests/native/kernels_test.cpp holds them to it). */
#ifndef EDGEKIT_KERNELS_H
#define EDGEKIT_KERNELS_H

#include <cstddef>
#include <cstdint>

namespace ek {

/* A quantized weight in MatMulNBits's layout (quantize/packing.py draws it): y[n] = sum_k w[n, k] x[k] + bias[n]. */
struct Matrix {
  const uint8_t *codes = nullptr;       /* (n, blocks, block * bits / 8) */
  const void *scales = nullptr;         /* (n, blocks) float32 or float16 */
  const uint8_t *zero_points = nullptr; /* (n, ceil(blocks * bits / 8)), or null: 2^(bits-1) */
  const float *bias = nullptr;          /* (n), or null */
  int64_t n = 0, k = 0;
  int bits = 4, block = 32;
  bool half_scales = false;

  int64_t blocks() const { return (k + block - 1) / block; }
  int64_t row_bytes() const { return blocks() * block * bits / 8; }
};

/* Columns are worked on in chunks of 128: half an AVX-512 register of nibbles, and the least common multiple of the
 * blocks and of every vector. Buffers are padded to it with zeros. */
constexpr int kChunk = 128;
/* Activations share an int8 scale in groups of 32, the smallest weight block: an outlier spoils no more than 31 others. */
constexpr int kGroup = 32;

/* One row of activations in int8. For 4-bit weights each chunk holds its 64 even columns, then its 64 odd ones, because
 * a byte of codes holds an even column in its low nibble and the odd one beside it in its high nibble. */
struct QuantizedRow {
  int8_t *values; /* (padded k) */
  float *scales;  /* (padded k / 32): value * scale is the activation */
  float *sums;    /* (blocks): sum of the block's value * scale, which a zero point is multiplied with */
};

inline int64_t padded_k(int64_t k) { return (k + kChunk - 1) / kChunk * kChunk; }

/* Attention of the query heads that share one key-value head, over `m` consecutive positions, the last m of `length`:
 * causal, softmax in float, blocked over keys, so that memory grows with neither. Head g of position r is read at
 * q + r * q_stride + g * head_dim and written at y + r * y_stride + g * head_dim. keys, values: (length, head_dim). */
struct AttentionJob {
  const float *q;
  int64_t q_stride, m, group;
  const uint16_t *keys, *values; /* float16 */
  int64_t length;
  int head_dim; /* a multiple of 16, at most 256 */
  float *y;
  int64_t y_stride;
};

struct Kernels {
  const char *name;

  /* Quantize a row x (k) for a matrix of this width and block size. */
  void (*quantize_row)(const float *x, int64_t k, int bits, int block, QuantizedRow row);

  /* Decode: y[r * stride + i] for rows r < m (at most 8) and outputs i in [first, last), bias added. */
  void (*multiply_few)(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y,
                       int64_t stride);

  /* Prefill: the same for any number of rows; `scratch` holds multiply_many_scratch(w) bytes of this thread. */
  void (*multiply_many)(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y,
                        int64_t stride, void *scratch);
  size_t (*multiply_many_scratch)(const Matrix &w);

  /* y = x / rms(x) * weight over n numbers. */
  void (*rms_norm)(const float *x, const float *weight, int64_t n, float epsilon, float *y);

  /* y[i] = silu(gate[i]) * up[i]. */
  void (*silu_multiply)(const float *gate, const float *up, int64_t n, float *y);

  /* Rotate one head's halves in place: x (2 * half), cos and sin (half). */
  void (*rotate)(float *x, const float *cos, const float *sin, int64_t half);

  void (*attend)(const AttentionJob &job);

  /* Convert to the cache's float16. */
  void (*to_half)(const float *x, int64_t n, uint16_t *y);
};

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512Vnni;
#endif

}  // namespace ek

#endif
