/* Short measurements that compare tables of kernels on this processor, for choice.h: some milliseconds for each role.
 *
 * The tables take turns, and the best of several rounds counts, in processor time: other programs and interrupts can only slow
 * a table down. Decode and few rows read their weights from main memory, where the engine finds them: the caches are emptied before each
 * turn. A table that is the fastest in the L1 cache is often not the one that follows memory best. */
#ifndef EDGEKIT_SRC_TRIAL_H
#define EDGEKIT_SRC_TRIAL_H

#include <memory>
#include <vector>

#include "../kernels/kernels.h"
#include "composition.h"

namespace ek {

class Trials {
 public:
  /* complete: kernels that prepare the inputs. They outlive this object. */
  explicit Trials(const Kernels &complete);
  ~Trials();

  /* The multiply-adds per second of each of `tables` in a role other than kElementwise, in the calling thread. All of them
   * provide the role and run here. Throws Error(EK_NO_MEMORY). */
  std::vector<double> measure(Role role, const std::vector<const Kernels *> &tables);

 private:
  struct Weights;
  const Weights &weights();
  const Kernels &complete_;
  std::unique_ptr<const Weights> weights_;
};

}  // namespace ek

#endif
