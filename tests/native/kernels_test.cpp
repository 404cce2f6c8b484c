/* Tests every kernel table that this processor supports (kernel_checks.h). */
#include "kernel_checks.h"
#include "src/cpu.h"

int main() {
  for (const Kernels *kernels : known_kernels()) {
    if (!runs_here(*kernels)) {
      std::printf("this processor does not support %s: not tested\n", kernels->name);
      continue;
    }
    std::printf("%s\n", kernels->name);
    check_table(*kernels, 0.0f, 2e-5);
  }
  return finish("kernels_test");
}
