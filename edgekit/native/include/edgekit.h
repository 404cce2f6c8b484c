/* edgekit's native library: one C ABI that Python reaches by ctypes and applications link directly.
 *
 * Every function returns a status (EK_OK or one of ek_status); none throws, none keeps a pointer after it returned.
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
#define EK_ABI_VERSION 1

typedef enum {
  EK_OK = 0,
  EK_BAD_ARGUMENT = 1, /* a size, width or pointer that the function does not take */
  EK_NON_FINITE = 2    /* NaN, infinity, or a number too large for the result's type */
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

#ifdef __cplusplus
}
#endif

#endif /* EDGEKIT_H */
