/* The functions of edgekit's native library for edgekit's own builder, probe and tests: quantization, single operations
 * of the engine, measurements, and queries about the host. Applications need edgekit.h only.
 *
 * The rules of edgekit.h for errors, memory and threads apply. All functions here may be called from any thread. */
#ifndef EDGEKIT_TOOLS_H
#define EDGEKIT_TOOLS_H

#include "edgekit_text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Quantization ---- */

typedef enum { EK_FLOAT32 = 0, EK_FLOAT16 = 1, EK_BFLOAT16 = 2 } ek_dtype;

/* Quantize the rows of a weight matrix by rounding to nearest, with a least-squares search for the scale and zero point
 * of each block. The result is the same on every machine, byte for byte.
 *
 *   rows         (n, k) row-major, contiguous, of type `dtype`; n may be 0
 *   dtype        an ek_dtype
 *   bits         4 or 8
 *   block_size   a multiple of 16 from 16 to 256; the last block of a row may be shorter
 *   symmetric    not zero: every zero point is 2^(bits-1) and is not stored
 *   scale_dtype  EK_FLOAT32 or EK_FLOAT16, the type of `scales`; codes are chosen for the rounded scale
 *   codes        out, uint8 (n, blocks, block_size * bits / 8), low nibble first; blocks = ceil(k / block_size)
 *   scales       out, (n, blocks)
 *   zero_points  out, uint8 (n, ceil(blocks * bits / 8)), low nibble first; may be NULL if symmetric
 *   bad_index    out, with EK_NON_FINITE: row-major index of the first bad weight; may be NULL
 *
 * EK_NON_FINITE: a weight is NaN, or its magnitude is above 1e30 (with float16 scales: above 65504). */
EK_API int ek_quantize_rows(const void *rows, int dtype, int64_t n, int64_t k, int bits, int block_size, int symmetric,
                            int scale_dtype, uint8_t *codes, void *scales, uint8_t *zero_points, int64_t *bad_index);

/* ---- Single operations of the engine ---- */

/* A quantized matrix in the layout of onnxruntime's MatMulNBits, as ek_quantize_rows writes it;
 * blocks = ceil(k / block_size). */
typedef struct {
  const uint8_t *codes;       /* (n, blocks, block_size * bits / 8), low nibble first */
  const void *scales;         /* (n, blocks), aligned to their type */
  const uint8_t *zero_points; /* (n, ceil(blocks * bits / 8)), low nibble first; NULL: all are 2^(bits-1) */
  const float *bias;          /* (n); NULL: none */
  int64_t n, k;               /* outputs, 1 to 2^24; inputs, 1 to 2^17 */
  int32_t bits, block_size;   /* 4 or 8; 32, 64 or 128 */
  int32_t scale_dtype;        /* EK_FLOAT32 or EK_FLOAT16 */
} ek_matrix;

/* Multiply activations with a quantized matrix, in the calling thread: y (m, n) = x (m, k) * w^T + bias, all row-major,
 * contiguous float32. Activations are rounded as in the engine, to int8 in groups of block_size (to bfloat16 by "amx").
 *
 *   kernel   the name of an instruction set (ek_kernel_at); NULL: that of ek_kernel_name
 *   m        rows of activations, 1 to 2^24
 *   prefill  not zero: use the prefill code for any m; 0: use the decode code for m up to 16
 *
 * EK_UNSUPPORTED: this processor or this build does not support `kernel`. */
EK_API int ek_multiply(const char *kernel, const ek_matrix *w, const float *x, int64_t m, int prefill, float *y);

/* Compute the causal attention of one layer over a whole text, as prefill does. Queries and keys are rotated (RoPE, the
 * halves of a head form the pairs); keys and values are rounded to float16, and nothing to bfloat16.
 *
 *   qkv       float32 (tokens, (heads + 2 * kv_heads) * head_dim): queries, keys and values; not modified
 *   tokens    1 to 2^24
 *   heads     query heads, a multiple of kv_heads, at most 1024
 *   head_dim  a multiple of 16 from 16 to 256
 *   cos, sin  float32 (tokens, head_dim / 2)
 *   threads   1 to 1024; 0: ek_default_threads
 *   y         out, float32 (tokens, heads * head_dim)
 *
 * EK_NO_MEMORY: the keys and values need more memory than is available. */
EK_API int ek_attend(const float *qkv, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim,
                     const float *cos, const float *sin, int threads, float *y);

/* ---- Kernels: what this machine can do, and what a model needs ---- */

/* The name of kernel number `index` of this build, newest first; NULL if `index` is out of range. `runs` (may be NULL)
 * is set to 1 if this processor and operating system support it, else to 0. */
EK_API const char *ek_kernel_at(int index, int *runs);

/* The functions of the engine whose kernels are chosen, each for itself. */
typedef enum {
  EK_DECODE = 0,   /* a product with one row of activations */
  EK_FEW_ROWS = 1, /* a product with 2 to 16 rows */
  EK_PREFILL = 2,  /* a product with more rows */
  EK_ATTENTION = 3
} ek_kernel_role;

/* The name of candidate number `index` for a function: the kernels that have it and that this machine supports, newest
 * first. NULL if `role` or `index` is out of range, or if ek_kernel_name is NULL.
 *
 *   role                      ek_kernel_role
 *   is_used                   out, may be NULL: 1 if the engine uses this kernel for the function, else 0
 *   multiply_adds_per_second  out, may be NULL: what one thread reached; 0 if the speed was not measured, because
 *                             EDGEKIT_ISA is set, there is no other candidate, or this is the portable kernel
 *
 * Speeds are measured once for each processor model, like those of ek_session_create, and kept in the user's cache. */
EK_API const char *ek_kernel_candidate(int role, int index, int *is_used, double *multiply_adds_per_second);

/* Measure how fast main memory can be read, in bytes per second: the best of six windows of 50 ms.
 *
 *   threads  1 to 1024; 0: ek_default_threads
 *   bytes    size of the buffer, at least 4096 for each thread; 0: a size far larger than the caches
 *
 * EK_NO_MEMORY: not enough memory is available for the buffer. With `bytes` 0 it takes at most a quarter of the
 * available memory. */
EK_API int ek_measure_bandwidth(int threads, int64_t bytes, double *bytes_per_second);

/* Measure the peak arithmetic rate of a kernel: how many multiply-adds per second its innermost instructions reach on
 * registers alone. The result is the best of six windows of 50 ms.
 *
 *   name     a name from ek_kernel_at; NULL: that of ek_kernel_name
 *   threads  1 to 1024; 0: ek_default_threads
 *
 * EK_BAD_ARGUMENT: this build has no kernel of that name. EK_UNSUPPORTED: this processor does not support it. */
EK_API int ek_measure_kernel(const char *name, int threads, double *multiply_adds_per_second);

/* The bytes of weights that generating one token has to read, without the KV cache. 0 if `model` is NULL. */
EK_API int64_t ek_model_token_bytes(const ek_model *model);

/* The number of multiply-adds with weights that evaluating a prompt of `tokens` tokens needs, without attention. 0 if
 * `model` is NULL or `tokens` is less than 1; INT64_MAX if it is larger than that. */
EK_API int64_t ek_model_prompt_multiply_adds(const ek_model *model, int64_t tokens);

/* ---- The host ---- */

/* The memory this process can use: the host's, or less where a control group (version 1 or 2) above it has a limit. */
typedef struct {
  uint64_t total_bytes;
  uint64_t available_bytes;     /* can be allocated before the system swaps or kills; droppable file pages are free */
  const char *total_source;     /* what each figure was read from, such as "/proc/meminfo, MemTotal" or */
  const char *available_source; /* "control group, memory.max less the memory in use" */
} ek_memory_info;

/* Store the memory of the host in `memory`, read anew by each call. The texts are valid until the calling thread calls
 * this function again.
 *
 *   root  the folder that contains proc and sys; NULL: this machine
 *
 * EK_UNSUPPORTED: the system does not report its memory. */
EK_API int ek_host_memory(const char *root, ek_memory_info *memory);

/* The cores this process can use. */
typedef struct {
  int32_t physical;    /* physical cores within the CPU affinity, slow ones included */
  int32_t fast;        /* those of them that the engine uses */
  int32_t threads;     /* ek_default_threads: `fast`, or fewer where a control group has a CPU quota */
  int32_t is_reported; /* 0: the system does not report which CPUs share a core; each CPU counts as a core */
} ek_core_info;

/* Store the cores of the host in `cores`, read anew by each call.
 *
 *   root   as in ek_host_memory
 *   cpus   (count) numbers of the CPUs (hardware threads) to count; NULL: those that this process may run on
 *   count  at least 1 unless `cpus` is NULL */
EK_API int ek_host_cores(const char *root, const int32_t *cpus, int64_t count, ek_core_info *cores);

/* ---- Text ---- */

/* Normalize a text and split it into the words that are encoded one by one, without looking for added tokens.
 *
 *   normalized  out, (capacity): the normalized text; `size` is its length
 *   ends        out, (most): the end of each word in the normalized text; `count` is their number
 *
 * As with ek_text_encode, an array may be NULL if its capacity is 0. */
EK_API int ek_text_words(const ek_text *text, const char *utf8, int64_t bytes, char *normalized, int64_t capacity,
                         int64_t *size, int64_t *ends, int64_t most, int64_t *count);

#ifdef __cplusplus
}
#endif

#endif /* EDGEKIT_TOOLS_H */
