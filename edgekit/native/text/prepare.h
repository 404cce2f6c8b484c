/* Prepares the next turn of a conversation, while somebody reads the answer.
 *
 * A reasoning model's thought is left out of the next prompt, so everything behind it has to be evaluated again. ek_prepare does
 * that before the next question is known: it evaluates what every next prompt begins with, in pieces, until it is cancelled.
 *
 * A next prompt that begins with it is evaluated up to the same place and in the same pieces, whether or not they were prepared in
 * time. Pieces have at least kPreparedPiece rows, for which the kernels are the same, so an answer does not depend on how long
 * somebody read. Any other prompt keeps what it has in common with what was prepared. That is faster than to evaluate it again, but
 * its last digits depend on where a piece ended. */
#ifndef EDGEKIT_TEXT_PREPARE_H
#define EDGEKIT_TEXT_PREPARE_H

#include <cstdint>
#include <vector>

#include "../src/abi.h"
#include "edgekit_text.h"
#include "tables.h"

namespace ek {

constexpr int64_t kPreparedPiece = 128; /* rows; the last piece of several has up to twice as many */

/* The number of ids at the start that two sequences have in common. */
int64_t common_start(const std::vector<int32_t> &a, const std::vector<int32_t> &b);

/* The ids that every prompt begins with that continues a conversation with a message of the user. Throws Error: EK_UNSUPPORTED,
 * EK_BAD_ARGUMENT. */
std::vector<int32_t> next_start(const Tables &tables, const ek_message *messages, int64_t count);

/* Append ids to a session in pieces. Throws Error; pieces that were finished stay. */
void evaluate_pieces(Session &session, const int32_t *ids, int64_t count);

/* Implements ek_prepare. Throws Error. */
void prepare(ek_session &session, const Tables &tables, const ek_message *messages, int64_t count);

}  // namespace ek

#endif
