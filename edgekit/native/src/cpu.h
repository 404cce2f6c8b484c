/* Finds out which kernels this machine can run. Compiled without ISA flags; checks the processor and the operating system. */
#ifndef EDGEKIT_SRC_CPU_H
#define EDGEKIT_SRC_CPU_H

#include <vector>

#include "../kernels/kernels.h"

namespace ek {

/* All tables of this build, the fastest first. */
std::vector<const Kernels *> known_kernels();

/* Whether the processor and the operating system support a table. */
bool runs_here(const Kernels &kernels);

/* The fastest table, or the one that the environment variable EDGEKIT_ISA names. Throws Error(EK_UNSUPPORTED) if that one
 * cannot run here. */
const Kernels &choose_kernels();

}  // namespace ek

#endif
