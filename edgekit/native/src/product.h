/* One quantized product outside of a model, for applications and for tests. */
#ifndef EDGEKIT_SRC_PRODUCT_H
#define EDGEKIT_SRC_PRODUCT_H

#include <cstdint>

#include "edgekit_tools.h"

namespace ek {

/* y (m, n) = x (m, k) * w; edgekit_tools.h describes the arguments of ek_multiply. Throws Error: EK_BAD_ARGUMENT, EK_UNSUPPORTED,
 * EK_NO_MEMORY. */
void multiply(const char *kernel, const ek_matrix &w, const float *x, int64_t m, bool prefill, float *y);

}  // namespace ek

#endif
