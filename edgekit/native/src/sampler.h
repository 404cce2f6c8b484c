/* Sampling: chooses tokens from logits. Linear in the size of the vocabulary, with the same result on every machine. */
#ifndef EDGEKIT_SRC_SAMPLER_H
#define EDGEKIT_SRC_SAMPLER_H

#include <cstdint>

#include "edgekit.h"
#include "team.h"

namespace ek {

/* Implements ek_sample (edgekit.h).
 *
 * logits: (n), not modified; seen: (n), not zero where the repetition penalty applies, or null; state: the random state,
 * changed when a number is drawn. Throws Error: EK_BAD_ARGUMENT, EK_NON_FINITE. */
int32_t sample(const float *logits, int64_t n, const ek_sampling &sampling, const uint8_t *seen, uint64_t &state);

/* sample() of each row of logits (count, n), at most kMostFew, by several threads. The states are unchanged on an error. Throws
 * Error as sample() does for the first row with an error. */
void sample_rows(Team &team, const float *logits, int64_t n, int64_t count, const ek_sampling *sampling, const uint8_t *const *seen,
                 uint64_t *states, int32_t *tokens);

}  // namespace ek

#endif
