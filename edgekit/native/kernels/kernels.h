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

/* Rows of codes are padded to it: half an AVX-512 register of nibbles, and the least common multiple of the blocks. */
constexpr int kChunk = 128;
/* Activations share an int8 scale in groups of 32, the smallest weight block: an outlier spoils no more than 31 others. */
constexpr int kGroup = 32;
/* Rows of activations in a pack, the unit of prefill: the rows of an AMX tile, four NEON registers of int8 products. */
constexpr int kPackRows = 16;
/* The most outputs one call of multiply_many is asked for: with 512 rows its float sums are half a megabyte, a part of an L2. */
constexpr int64_t kMostOutputs = 256;

/* One row of activations in int8, for decoding. For 4-bit weights each chunk of 128 columns holds its 64 even columns, then
 * its 64 odd ones, because a byte of codes holds an even column in its low nibble and the odd one beside it in its high. */
struct QuantizedRow {
  int8_t *values; /* (padded k) */
  float *scales;  /* (padded k / 8): value * scale is the activation; a group's scale stands four times, once for each
                     dword of 4-bit codes, so that a register of products meets a register of scales */
  float *sums;    /* (blocks): sum of the block's value * scale, which a zero point is multiplied with */
};

inline int64_t padded_k(int64_t k) { return (k + kChunk - 1) / kChunk * kChunk; }

enum class KvType { kFloat16, kInt8 };

/* Keys stand 16 positions side by side, so that a register holds one dimension of as many keys and nothing is summed
 * across lanes. */
constexpr int kKeyLanes = 16;
/* Keys and values are worked on in blocks of so many positions, of which a cache has whole ones: as float, 32 KB of keys at
 * head_dim 128. */
constexpr int kKvBlock = 64;
constexpr int kMaxHeadDim = 256;

/* Keys or values of one key-value head. */
struct KvRows {
  const void *rows;    /* float16 or int8: keys (positions / 16, head_dim, 16), values (positions, head_dim) */
  const float *scales; /* (positions), int8 only: value * scale. Both have room for whole blocks of kKvBlock */
};

/* Attention of the query heads that share one key-value head, over `m` consecutive positions, the first of them `position`:
 * causal, softmax in float, blocked over keys, so that memory grows with neither. Head g of row r is read at
 * q + r * q_stride + g * head_dim and written at y + r * y_stride + g * head_dim. Row r sees the keys from `begin` on that
 * stand before `end` and before position + r + 1: a long context is cut into parts for several threads. */
struct AttentionJob {
  const float *q;
  int64_t q_stride, m, group;
  KvType type;
  KvRows keys, values;
  int64_t begin, end, position; /* begin: a multiple of kKvBlock */
  int head_dim; /* a multiple of 16, at most kMaxHeadDim */
  float *y;
  int64_t y_stride;
  /* Where not null, y is left as the sum of weight * value, and each (row, head) says here what its parts are joined by:
   * (m, group) the largest score, and the sum of the weights e^(score - largest). */
  float *largest, *total;
};

struct Kernels {
  const char *name;

  /* Quantize a row x (k) for a matrix of this width and block size. Columns [begin, end) only: multiples of kChunk, end
   * at most padded_k(k). */
  void (*quantize_row)(const float *x, int64_t k, int bits, int block, int64_t begin, int64_t end, QuantizedRow row);

  /* Decode: y[r * stride + n] for rows r < m (at most 8) and outputs n in [first, last), bias added; with `add`, added to
   * what stands there. */
  void (*multiply_few)(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y,
                       int64_t stride, bool add);

  /* Prefill. A pack holds 16 rows of activations in whatever form multiply_many takes them; pack_bytes is a multiple of 64,
   * and packs follow one another. x (count, end - begin) with `stride` between rows: columns [begin, end) of them, begin a
   * multiple of kChunk, end also or k, which is padded with zeros; so are the rows from `count` on. */
  size_t (*pack_bytes)(const Matrix &w);
  void (*pack)(const float *x, int64_t stride, int count, const Matrix &w, int64_t begin, int64_t end, uint8_t *pack);

  /* As multiply_few for any number of rows and at most kMostOutputs outputs; `packs` and `scratch` (multiply_many_scratch
   * bytes, this thread's) are aligned to 64. */
  void (*multiply_many)(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y,
                        int64_t stride, bool add, uint8_t *scratch);
  size_t (*multiply_many_scratch)(const Matrix &w, int64_t m);

  /* y = x / rms(x) * weight over n numbers. */
  void (*rms_norm)(const float *x, const float *weight, int64_t n, float epsilon, float *y);

  /* y[i] = silu(gate[i]) * up[i]. */
  void (*silu_multiply)(const float *gate, const float *up, int64_t n, float *y);

  /* Rotate one head's halves in place: x (2 * half), cos and sin (half). */
  void (*rotate)(float *x, const float *cos, const float *sin, int64_t half);

  /* Put one position's key or value x (n) into the cache, numbers `stride` apart; `scale` is written for int8 only. */
  void (*store_kv)(const float *x, int64_t n, KvType type, void *y, int64_t stride, float *scale);

  /* `scratch` holds attend_scratch(head_dim, m * group) bytes of this thread, aligned to 64. */
  void (*attend)(const AttentionJob &job, uint8_t *scratch);
  size_t (*attend_scratch)(int head_dim, int64_t rows);

  /* Run multiply_many's innermost instructions on registers alone; how many multiply-adds that were. What a processor can
   * do at most, for `edgekit probe`. */
  int64_t (*spin)(int64_t iterations);
};

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512Vnni;
extern const Kernels kAmx;
#elif defined(__aarch64__)
extern const Kernels kNeonDotprod;
extern const Kernels kNeonI8mm;
#endif

}  // namespace ek

#endif
