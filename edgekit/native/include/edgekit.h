/* edgekit's native library: one C ABI that Python reaches by ctypes and applications link directly.
 *
 * Functions that can fail return a status (EK_OK or one of ek_status) and leave a message in ek_last_error; none throws,
 * none keeps a pointer to the caller's memory after it returned.
 *
 * A model may be shared by any number of sessions and threads; one session may be used by one thread at a time.
 */
#ifndef EDGEKIT_H
#define EDGEKIT_H

#include <stdint.h>

#if defined(_WIN32)
#define EK_API __declspec(dllexport)
#else
#define EK_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised with every change to this header that an older caller would not survive. */
#define EK_ABI_VERSION 3

typedef enum {
  EK_OK = 0,
  EK_BAD_ARGUMENT = 1, /* a size, width or pointer that the function does not take */
  EK_NON_FINITE = 2,   /* NaN, infinity, or a number too large for the result's type */
  EK_BAD_FILE = 3,     /* a file that is missing, damaged, or no artifact */
  EK_UNSUPPORTED = 4,  /* an artifact or a processor this library has no code for */
  EK_NO_MEMORY = 5,    /* not enough memory */
  EK_CONTEXT = 6,      /* more tokens than the context holds */
  EK_TOKEN = 7,        /* a token id outside the vocabulary */
  EK_INTERNAL = 8      /* a bug in edgekit */
} ek_status;

typedef enum { EK_FLOAT32 = 0, EK_FLOAT16 = 1, EK_BFLOAT16 = 2 } ek_dtype;

/* The ABI version the library was built with: compare it with EK_ABI_VERSION. */
EK_API int ek_abi_version(void);

/* Quantize rows of a weight matrix to nearest, with a least-squares search for each block's scale and zero point.
 *
 *   rows         (n, k) row-major, contiguous, of type `dtype`
 *   bits         4 or 8
 *   block_size   a multiple of 16, at most 256; the last block of a row may be short
 *   symmetric    non-zero: the zero point is 2^(bits-1) and is not stored
 *   scale_dtype  EK_FLOAT32 or EK_FLOAT16: the type of `scales`; codes are chosen for the rounded scale
 *   codes        out, uint8 (n, blocks, block_size * bits / 8), low nibble first
 *   scales       out, (n, blocks)
 *   zero_points  out, uint8 (n, ceil(blocks * bits / 8)), low nibble first; NULL when symmetric
 *   bad_index    out, with EK_NON_FINITE: row-major index of the first weight that is NaN or larger than 1e30 (with
 *                float16 scales: than 65504); may be NULL
 *
 * The same bytes come out on every machine: sums run in a fixed order and no multiply-add is contracted.
 */
EK_API int ek_quantize_rows(const void *rows, int dtype, int64_t n, int64_t k, int bits, int block_size, int symmetric,
                            int scale_dtype, uint8_t *codes, void *scales, uint8_t *zero_points, int64_t *bad_index);

/* What went wrong in this thread's last call that returned a status other than EK_OK. Never NULL; valid until the next. */
EK_API const char *ek_last_error(void);

/* The instruction set the engine uses here: "avx512vnni", "avx2", ... NULL (and ek_last_error) when EDGEKIT_ISA names one
 * this processor cannot run. */
EK_API const char *ek_kernel_name(void);

/* What a session keeps keys and values in: int8 has a scale for each position's head and is half the size. */
typedef enum { EK_KV_FLOAT16 = 0, EK_KV_INT8 = 1 } ek_kv_type;

typedef struct ek_model ek_model;
typedef struct ek_session ek_session;

/* Open an artifact's folder: its weights are mapped, not read. Close it after its last session or before, as you like. */
EK_API int ek_model_open(const char *folder, ek_model **model);
EK_API void ek_model_close(ek_model *model);
EK_API int64_t ek_model_vocab_size(const ek_model *model);
EK_API int64_t ek_model_context_length(const ek_model *model);

/* A session with room for `context` tokens, computed by `threads` threads (1 to 1024, the caller's among them;
 * 0: ek_default_threads), its cache of an ek_kv_type. EK_NO_MEMORY when that cache needs more than is available. */
EK_API int ek_session_create(ek_model *model, int64_t context, int threads, int kv_type, ek_session **session);
EK_API void ek_session_free(ek_session *session);
EK_API int64_t ek_session_position(const ek_session *session);
EK_API int64_t ek_session_cache_bytes(const ek_session *session);

/* Append `count` tokens. `logits` takes float32 (1, vocab) of the last one, or (count, vocab) with `all` non-zero.
 * On an error the session is as before. */
EK_API int ek_session_evaluate(ek_session *session, const int32_t *tokens, int64_t count, int all, float *logits);

/* Append a token to each of `count` sessions of one model, 1 to 8, all computed together: weights are read once for all, so
 * that eight take three times as long as one, not eight (2 cores, AVX2, R1-1.5B). The threads and the memory of `worker`, a session of that model that may be one of
 * them, do the work. `logits` takes float32 (count, vocab). On an error all sessions are as before. */
EK_API int ek_session_step(ek_session *worker, ek_session *const *sessions, const int32_t *tokens, int64_t count, float *logits);

/* Forget every position from `length` on. */
EK_API int ek_session_rewind(ek_session *session, int64_t length);

/* The ids evaluated so far: the first `count` of them, at most ek_session_position's. */
EK_API int ek_session_tokens(const ek_session *session, int32_t *tokens, int64_t count);

/* Make `session` what `source` is: a session of the same model and key-value type. What it held is forgotten. */
EK_API int ek_session_copy(ek_session *session, const ek_session *source);

/* Write a session's sequence, ids with keys and values, to a file; read one, written by a session of the same model and
 * key-value type, in place of what the session holds. A prompt that was read once need not be read again. */
EK_API int ek_session_save(const ek_session *session, const char *path);
EK_API int ek_session_load(ek_session *session, const char *path);

/* ---- What this machine can do, and what a model asks of it ---- */

/* How many threads the arithmetic should use, at least 1: one per physical core this process may run on, of the fast ones
 * where cores differ (src/topology.h says which), no more than a control group's CPU quota. 0 threads mean this number
 * wherever this library takes a number of threads. */
EK_API int ek_default_threads(void);

/* The memory this process can use: the host's, or less where a control group (version 1 or 2) above it has a limit. */
typedef struct {
  uint64_t total_bytes;
  uint64_t available_bytes;     /* can be allocated before the system swaps or kills: droppable file pages count as free */
  const char *total_source;     /* what each figure was read from, such as "/proc/meminfo, MemTotal" or */
  const char *available_source; /* "control group, memory.max less the memory in use"; valid until this thread's next call */
} ek_memory_info;

/* Fill in `memory`, read anew at each call. `root` is the folder that contains proc and sys; NULL is this machine.
 * EK_UNSUPPORTED if the system does not report its memory. */
EK_API int ek_host_memory(const char *root, ek_memory_info *memory);

/* The cores this process can use. */
typedef struct {
  int32_t physical;     /* physical cores within the CPU affinity, of any speed */
  int32_t fast;         /* those of them that the engine uses; see ek_default_threads */
  int32_t threads;      /* ek_default_threads: `fast`, or fewer where a control group's CPU quota allows fewer */
  int32_t is_reported;  /* 0: the system does not tell which hardware threads share a core, so each counts as a core */
} ek_core_info;

/* Fill in `cores`. `root` is as in ek_host_memory. `cpus` are the numbers of the `count` hardware threads to count; with
 * NULL they are those that this process may run on. */
EK_API int ek_host_cores(const char *root, const int32_t *cpus, int64_t count, ek_core_info *cores);

/* The kernels of this build, the best first: the name of number `index`, NULL past the last; `runs`, which may be NULL, says
 * whether this processor and system run it. */
EK_API const char *ek_kernel_at(int index, int *runs);

/* The rate at which `threads` threads (1 to 1024; 0: ek_default_threads) read main memory, in bytes per second: the best of
 * six windows of 50 ms. `bytes`: size of the buffer; 0 for one far larger than the caches, at most a quarter of the memory
 * available; EK_NO_MEMORY when there is not enough for that. */
EK_API int ek_measure_bandwidth(int threads, int64_t bytes, double *bytes_per_second);

/* What a kernel's innermost instructions do at most, on registers, with `threads` threads as above: the best of six windows
 * of 50 ms. `name`: one of ek_kernel_at; NULL for ek_kernel_name's. */
EK_API int ek_measure_kernel(const char *name, int threads, double *multiply_adds_per_second);

/* Bytes of weights that generating one token reads at least (the KV cache is not among them), and multiply-adds with weights
 * that a prompt of `tokens` tokens takes at least; 0 without a model or tokens. */
EK_API int64_t ek_model_token_bytes(const ek_model *model);
EK_API int64_t ek_model_prompt_multiply_adds(const ek_model *model, int64_t tokens);

/* ---- Sampling: from logits to a token ----
 *
 * The filters apply in the order of transformers (generation/logits_process.py). Tokens exactly as likely as the last one
 * that a filter keeps are kept too, so the outcome never depends on the order of ids. */
typedef struct {
  float temperature;        /* logits / temperature; 0 is greedy: the largest logit, the lowest id among equals, no filters */
  float top_p;              /* above 0, at most 1: the fewest most likely tokens that make up so much of those top_k leaves */
  float min_p;              /* 0 to 1: tokens at least so many times as likely as the likeliest */
  float repetition_penalty; /* above 0; 1 is off. Applied first, to seen ids: logit / penalty where positive, else logit * penalty */
  int32_t top_k;            /* 0 (off), or tokens at least as likely as the k-th */
} ek_sampling;

/* Choose a token.
 *
 *   logits        float32 (n), left as they are
 *   seen          uint8 (n), not zero for the ids of prompt and answer; NULL: none
 *   random_state  any 64 bits to begin with; moved on by a draw. The same state, logits and sampling give the same token on
 *                 every machine
 *   token         out
 *
 * EK_NON_FINITE: a logit is NaN, or the largest is infinite. */
EK_API int ek_sample(const float *logits, int64_t n, const ek_sampling *sampling, const uint8_t *seen, uint64_t *random_state,
                     int32_t *token);

/* ---- One quantized product, in this thread ---- */

/* A matrix in the layout of onnxruntime's MatMulNBits, as ek_quantize_rows writes it; blocks = ceil(k / block_size). */
typedef struct {
  const uint8_t *codes;       /* (n, blocks, block_size * bits / 8), low nibble first */
  const void *scales;         /* (n, blocks) */
  const uint8_t *zero_points; /* (n, ceil(blocks * bits / 8)), low nibble first; NULL: 2^(bits-1) */
  const float *bias;          /* (n); NULL: none */
  int64_t n, k;               /* outputs, at most 2^24; inputs, at most 2^17 */
  int32_t bits, block_size;   /* 4 or 8; 32, 64 or 128 */
  int32_t scale_dtype;        /* EK_FLOAT32 or EK_FLOAT16 */
} ek_matrix;

/* y (m, n) = x (m, k) * w, row-major and contiguous; activations are rounded to int8 in groups of 32, as in the engine.
 *
 *   kernel   an instruction set as ek_kernel_name spells it; NULL: the one chosen here
 *   prefill  not zero: the code of prefill for any m; zero: the code of decoding for m up to 8
 */
EK_API int ek_multiply(const char *kernel, const ek_matrix *w, const float *x, int64_t m, int prefill, float *y);

/* ---- The attention of one layer over a whole text, as prefill computes it ----
 *
 * Causal, with as many query heads to a key-value head as heads / kv_heads; queries and keys are rotated, halves of a head as
 * pairs, and keys and values are rounded to float16.
 *
 *   qkv       (tokens, (heads + 2 * kv_heads) * head_dim), left as it is: queries, keys, values
 *   head_dim  a multiple of 16, at most 256
 *   cos, sin  (tokens, head_dim / 2)
 *   threads   1 to 1024; 0: ek_default_threads
 *   y         out, (tokens, heads * head_dim)
 */
EK_API int ek_attend(const float *qkv, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, const float *cos,
                     const float *sin, int threads, float *y);

#ifdef __cplusplus
}
#endif

#endif /* EDGEKIT_H */
