/* Short measurements that compare tables of kernels on this processor, for choice.h: some 20 ms for all roles.
 *
 * The tables and the roles take turns, and the best of several rounds counts, in processor time: other programs and interrupts
 * can only slow a table down. Decode and few rows read their weights from main memory, where the engine finds them: the caches
 * are emptied before each turn. A table that is the fastest in the L1 cache is often not the one that follows memory best. */
#ifndef EDGEKIT_SRC_TRIAL_H
#define EDGEKIT_SRC_TRIAL_H

#include <vector>

#include "../kernels/kernels.h"
#include "composition.h"

namespace ek {

/* The speed of a table in a role, in multiply-adds per second; 0: not measured. */
struct MeasuredSpeed {
  Role role;
  const Kernels *table;
  double rate;
};

/* A table replaces a newer one if it is faster by this factor. Two trials of one table differ by 1 to 3 %. */
constexpr double kClearlyFaster = 1.05;

/* The table to use for a role: the first one, unless a later one is clearly faster. */
const Kernels *fastest(const std::vector<MeasuredSpeed> &candidates);

/* Set the rates of tables that provide a role other than kElementwise and run here, in the calling thread. The speeds of a role
 * are adjacent, the newest table first. If a table is about to replace a newer one, more rounds must confirm it. `complete`:
 * kernels that prepare the inputs. Throws Error(EK_NO_MEMORY). */
void measure_speeds(std::vector<MeasuredSpeed> &speeds, const Kernels &complete);

}  // namespace ek

#endif
