/* Which kernels this machine can run. Compiled without any ISA flag; asks the processor and the operating system. */
#ifndef EDGEKIT_SRC_CPU_H
#define EDGEKIT_SRC_CPU_H

#include <vector>

#include "../kernels/kernels.h"

namespace ek {

/* Every table of this build, the best first. */
std::vector<const Kernels *> known_kernels();

/* Whether the processor and the operating system run it. */
bool runs_here(const Kernels &kernels);

/* The best table, or the one EDGEKIT_ISA names. Throws Error(EK_UNSUPPORTED) when that one cannot run here. */
const Kernels &choose_kernels();

}  // namespace ek

#endif
