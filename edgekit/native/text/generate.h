/* Generates one answer: prompt, sampling, text, stop conditions, and events for the caller. Does what
 * edgekit/runtime/session.py and generation.py do. */
#ifndef EDGEKIT_TEXT_GENERATE_H
#define EDGEKIT_TEXT_GENERATE_H

#include <memory>

#include "../src/abi.h"
#include "edgekit_text.h"
#include "tables.h"

namespace ek {

/* Implements ek_generate. Throws Error. */
void generate(ek_session &session, const std::shared_ptr<const Tables> &tables, const ek_request &request, ek_on_event on_event,
              void *context);

}  // namespace ek

#endif
