/* The arithmetic of the engine: a table of plain functions, one table for each instruction set.
 *
 * A kernel file is compiled with its own flags, does not use the STL, has only file-local helpers, and exports one symbol:
 * its table. scalar.cpp is the reference implementation; tests/native/kernels_test.cpp tests every other table against
 * it. */
#ifndef EDGEKIT_KERNELS_H
#define EDGEKIT_KERNELS_H

#include <cstddef>
#include <cstdint>

namespace ek {

/* A quantized weight matrix in the layout of MatMulNBits, drawn in quantize/packing.py:
 * y[n] = sum_k w[n, k] x[k] + bias[n]. */
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

/* Rows of activations are padded to a multiple of this: one AVX-512 register of nibbles, and a multiple of every block size. */
constexpr int kChunk = 128;
/* The smallest and the largest weight block. */
constexpr int kLeastBlock = 32, kMostBlock = 128;
/* The most rows of activations of multiply_few: the sequences of a step, or the tokens of a draft. */
constexpr int kMostFew = 16;
/* Rows of activations in a pack, the unit of prefill: the rows of an AMX tile, or four NEON registers of int32 sums. */
constexpr int kPackRows = 16;
/* The most outputs of one call of multiply_many: with 512 rows, its float sums take 512 KB, part of an L2 cache. */
constexpr int64_t kMostOutputs = 256;

/* One row of activations in int8, for decode. The activations that meet one block of weights share a scale, so the products
 * of a block are added as integers. For 4-bit weights, each chunk of 128 columns stores its 64 even columns and then its 64
 * odd ones, because a byte of codes has an even column in its low nibble and the next odd column in its high nibble. */
struct QuantizedRow {
  int8_t *values; /* (padded k) */
  float *scales;  /* (padded k / block): value * scale is the activation */
  float *sums;    /* (padded k / block): the sum of value * scale over a block, to be multiplied by the zero point */
};

inline int64_t padded_k(int64_t k) { return (k + kChunk - 1) / kChunk * kChunk; }

enum class KvType { kFloat16, kInt8 };

/* Keys of 16 positions are interleaved: a register holds one dimension of 16 keys, so scores need no sum across lanes. */
constexpr int kKeyLanes = 16;
/* Attention processes keys and values in blocks of this many positions; a cache has room for whole blocks. As float, a
 * block of keys with head_dim 128 takes 32 KB. */
constexpr int kKvBlock = 64;
constexpr int kMaxHeadDim = 256;

/* The keys or the values of one key-value head. */
struct KvRows {
  const void *rows;    /* float16 or int8: keys (positions / 16, head_dim, 16), values (positions, head_dim) */
  const float *scales; /* (positions), int8 only. Both arrays have room for whole blocks of kKvBlock */
};

/* Causal attention of the query heads that share one key-value head, for `m` consecutive positions that start at
 * `position`. The softmax is in float and runs over blocks of keys, so the scratch memory does not depend on the length.
 * Head g of row r is read at q + r * q_stride + g * head_dim and written at y + r * y_stride + g * head_dim. Row r sees the
 * keys from `begin` to min(end, position + r + 1) - 1; `begin` and `end` split a long context between threads. */
struct AttentionJob {
  const float *q;
  int64_t q_stride, m, group;
  KvType type;
  KvRows keys, values;
  int64_t begin, end, position; /* begin: a multiple of kKvBlock */
  int head_dim; /* a multiple of 16, at most kMaxHeadDim */
  float *y;
  int64_t y_stride;
  /* For a part of a context, else null: (m, group) largest score, and sum of the weights e^(score - largest). y is then the
   * sum of weight * value, not divided by the total; the caller combines the parts. */
  float *largest, *total;
};

/* A table. Its functions are used apart (src/composition.h): decode, few rows, prefill (from pack_bytes to
 * multiply_many_scratch, and spin), attention, and the elementwise rest. A table may provide only some of these groups; the
 * pointers of the others are null. */
struct Kernels {
  const char *name = nullptr;

  /* Quantize the columns [begin, end) of a row x (k) for a matrix with this width and block size. `begin` and `end` are
   * multiples of kChunk, `end` is at most padded_k(k). */
  void (*quantize_row)(const float *x, int64_t k, int bits, int block, int64_t begin, int64_t end, QuantizedRow row) = nullptr;

  /* Decode: compute y[n] for outputs n in [first, last), with bias. `add`: add to y instead of overwriting it. */
  void (*multiply_one)(const Matrix &w, const QuantizedRow &row, int64_t first, int64_t last, float *y, bool add) = nullptr;

  /* The same for m rows of activations, 1 to kMostFew: y[r * stride + n]. */
  void (*multiply_few)(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y,
                       int64_t stride, bool add) = nullptr;

  /* Prefill. A pack holds 16 rows of activations in the form that this table's multiply_many needs; pack_bytes is a
   * multiple of 64, and packs are contiguous. pack() stores the columns [begin, end) of `count` rows; x (count, end - begin)
   * has `stride` numbers from row to row. `begin` is a multiple of kChunk; so is `end`, unless it is k. Columns from k on
   * and rows from `count` on are filled with zeros. */
  size_t (*pack_bytes)(const Matrix &w) = nullptr;
  void (*pack)(const float *x, int64_t stride, int count, const Matrix &w, int64_t begin, int64_t end, uint8_t *pack) = nullptr;

  /* Like multiply_few, for any number of rows and at most kMostOutputs outputs. `packs` and `scratch`, which has
   * multiply_many_scratch bytes and is not shared with other threads, are aligned to 64 bytes. */
  void (*multiply_many)(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y,
                        int64_t stride, bool add, uint8_t *scratch) = nullptr;
  size_t (*multiply_many_scratch)(const Matrix &w, int64_t m) = nullptr;

  /* y = x / rms(x) * weight, for n numbers. */
  void (*rms_norm)(const float *x, const float *weight, int64_t n, float epsilon, float *y) = nullptr;

  /* y[i] = silu(gate[i]) * up[i]. */
  void (*silu_multiply)(const float *gate, const float *up, int64_t n, float *y) = nullptr;

  /* Rotate a head in place (RoPE): x (2 * half), whose halves form the pairs; cos and sin (half). */
  void (*rotate)(float *x, const float *cos, const float *sin, int64_t half) = nullptr;

  /* Store the key or value x (n) of one position in the cache, with `stride` from number to number. `scale` is written
   * for int8 only. */
  void (*store_kv)(const float *x, int64_t n, KvType type, void *y, int64_t stride, float *scale) = nullptr;

  /* `scratch` has attend_scratch(head_dim, m * group) bytes, is not shared with other threads, and is aligned to 64. */
  void (*attend)(const AttentionJob &job, uint8_t *scratch) = nullptr;
  size_t (*attend_scratch)(int head_dim, int64_t rows) = nullptr;

  /* Run the innermost instructions of multiply_many on registers alone and return the number of multiply-adds: measures
   * the peak rate of a processor, for `edgekit probe`. */
  int64_t (*spin)(int64_t iterations) = nullptr;

  /* Whether attend() rounds queries, keys, weights and values to bfloat16 if there are many rows. */
  bool attends_in_bf16 = false;

  /* The most rows of a prompt that are processed at once. Weights are unpacked once for all of them, and a cancelled call
   * ends with the tasks that have begun: more rows are faster, fewer end sooner. Part of the group for prefill. */
  int64_t prefill_rows = 512;

  /* multiply_few with the same bits as multiply_one for each row; null: multiply_one is called for some outputs and each row
   * in turn. It belongs to multiply_one. */
  void (*multiply_alike)(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y,
                         int64_t stride, bool add) = nullptr;
};

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512Vnni;
extern const Kernels kAvx512Bf16; /* attention only */
extern const Kernels kAmx;
#elif defined(__aarch64__)
extern const Kernels kNeonBf16; /* attention only */
extern const Kernels kNeonDotprod;
extern const Kernels kNeonI8mm;
#endif

}  // namespace ek

#endif
