/* The minimum work that a model needs, independent of the engine. Measured speeds are compared with it. */
#ifndef EDGEKIT_SRC_WORK_H
#define EDGEKIT_SRC_WORK_H

#include <cstdint>

#include "model.h"

namespace ek {

/* The bytes of weights that generating one token reads: all matrices of the layers and the lm_head as stored in the artifact
 * (codes, scales, zero points), biases, norms, and one row of the embedding. The KV cache is not included. */
int64_t token_bytes(const Model &model);

/* The multiply-adds with weights that a prompt of `tokens` tokens needs to compute the logits of its last token. The MLP of
 * the last layer and the lm_head count once, because they are needed for the last token only. Attention is not included: it
 * is other arithmetic than the peak rate of a kernel, and a few percent at a thousand tokens. */
int64_t prompt_multiply_adds(const Model &model, int64_t tokens);

}  // namespace ek

#endif
