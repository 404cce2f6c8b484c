/* From logits to a token. Linear in the vocabulary, which is never sorted; the same choice on every machine. */
#ifndef EDGEKIT_SRC_SAMPLER_H
#define EDGEKIT_SRC_SAMPLER_H

#include <cstdint>

#include "edgekit.h"

namespace ek {

/* Choose a token; edgekit.h describes ek_sample, which this is.
 *
 * logits: (n), left as they are; seen: (n), not zero where the penalty counts, or null; state: the generator's, moved on
 * when a number is drawn. Throws Error: EK_BAD_ARGUMENT, EK_NON_FINITE. */
int32_t sample(const float *logits, int64_t n, const ek_sampling &sampling, const uint8_t *seen, uint64_t &state);

}  // namespace ek

#endif
