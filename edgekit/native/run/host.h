/* What the system says about this process and this machine. */
#ifndef EDGEKIT_RUN_HOST_H
#define EDGEKIT_RUN_HOST_H

#include <cstdint>
#include <string>

#include "json.h"

namespace run {

/* Seconds of a clock that is never set. */
double now();

/* Peak resident memory of this process with mapped weights, and its private memory, in bytes; null if not known. */
Json peak_rss_bytes();
Json private_bytes();

/* The receipt's description of the machine: see docs/receipt.md. */
Json describe_host();

}  // namespace run

#endif
