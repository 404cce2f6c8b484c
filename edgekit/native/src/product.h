/* A product with a quantized matrix, without a model. */
#ifndef EDGEKIT_SRC_PRODUCT_H
#define EDGEKIT_SRC_PRODUCT_H

#include <cstdint>

#include "edgekit_tools.h"

namespace ek {

/* Implements ek_multiply (edgekit_tools.h). Throws Error: EK_BAD_ARGUMENT, EK_UNSUPPORTED, EK_NO_MEMORY. */
void multiply(const char *kernel, const ek_matrix &w, const float *x, int64_t m, bool prefill, float *y);

}  // namespace ek

#endif
