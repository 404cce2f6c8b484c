/* What a token costs at least, whatever runs it: the figures a measured speed is divided by. */
#ifndef EDGEKIT_SRC_WORK_H
#define EDGEKIT_SRC_WORK_H

#include <cstdint>

#include "model.h"

namespace ek {

/* Bytes of weights that generating one token reads: every matrix of the layers and the lm_head as the artifact stores them
 * (codes, scales, zero points), biases and norms, one row of the embedding. Not the KV cache. */
int64_t token_bytes(const Model &model);

/* Multiply-adds with weights that a prompt of `tokens` tokens takes up to the logits of its last. The last layer's MLP and
 * the lm_head count once: the other rows go no further. Attention is left out: it is not the arithmetic of the kernel's
 * peak, and a few percent at a thousand tokens. */
int64_t prompt_multiply_adds(const Model &model, int64_t tokens);

}  // namespace ek

#endif
