/* Finds out which kernels this machine can run. Compiled without ISA flags; checks the processor and the operating system. */
#ifndef EDGEKIT_SRC_CPU_H
#define EDGEKIT_SRC_CPU_H

#include <string>
#include <vector>

#include "../kernels/kernels.h"
#include "composition.h"

namespace ek {

/* All tables of this build, the newest first. A table may lack the functions of some roles. */
std::vector<const Kernels *> known_kernels();

/* Whether the processor and the operating system support a table. */
bool runs_here(const Kernels &table);

/* The tables of known_kernels that run here. */
std::vector<const Kernels *> runnable_kernels();

/* The parts of a table that runs here. A role that it lacks is provided by the next table that runs here and has it. */
Parts parts_of(const Kernels &table);

/* Complete kernels under the name of each table that runs here (parts_of), the newest first. They live as long as the
 * process. */
const std::vector<Kernels> &complete_kernels();

/* `kernels`, or if they round to bfloat16 in attention, the newest of complete_kernels() that do not. */
const Kernels &float_attention(const Kernels &kernels);

/* The complete kernels of that name. Throws Error: EK_BAD_ARGUMENT if this build has no such table, EK_UNSUPPORTED if this
 * processor does not support it. */
const Kernels &kernels_named(const std::string &name);

/* The model of the processor in one line, without its microcode; "" if the system does not tell. If cores differ, the models of
 * those that the engine uses. `root`: as in topology.h. */
std::string processor_model(const std::string &root = "");

}  // namespace ek

#endif
