/* Chooses the kernels that the engine uses: for each role, the fastest table on this processor.
 *
 * The newest instruction set is not always the fastest, and not in every role. The tables that run here are compared by
 * short measurements (trial.h), once for each processor model and version of the library: the speeds are kept in the user's
 * cache folder (choice_file.h). The newest table is used unless another one is clearly faster, so that noise does not decide:
 * tables round differently, and on one machine the same seed must give the same tokens. The scalar table is never measured, nor is a role
 * that only one other table provides. */
#ifndef EDGEKIT_SRC_CHOICE_H
#define EDGEKIT_SRC_CHOICE_H

#include <array>
#include <string>
#include <vector>

#include "../kernels/kernels.h"
#include "composition.h"
#include "trial.h"

namespace ek {

struct Choice {
  std::array<std::vector<MeasuredSpeed>, kChosenRoles> candidates; /* the tables that provide a role here, the newest first */
  Parts parts{};
  std::string name; /* composed_name, or that of the table that EDGEKIT_ISA names */
  Kernels kernels{};
};

/* The kernels of this process. The first call measures, or reads what an earlier process measured; later calls return the
 * same object, which lives as long as the process. May be called by several threads and by forked children. If the environment
 * variable EDGEKIT_ISA names a table, all kernels are those of this table (parts_of), and nothing is measured. Throws
 * Error(EK_UNSUPPORTED) if that table cannot run here. */
const Choice &choose();
inline const Kernels &choose_kernels() { return choose().kernels; }

/* Without the process's memory: read the speeds from the file `path`, or measure them and write the file. path "": only
 * measure. */
Choice make_choice(const std::string &path);

}  // namespace ek

#endif
