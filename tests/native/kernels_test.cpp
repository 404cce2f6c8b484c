/* Tests the functions of every kernel table that this processor supports (kernel_checks.h). */
#include "kernel_checks.h"
#include "src/cpu.h"

int main() {
  for (const Kernels *table : known_kernels()) {
    if (!runs_here(*table)) {
      std::printf("this processor does not support %s: not tested\n", table->name);
      continue;
    }
    std::printf("%s\n", table->name);
    check_parts(*table, kernels_named(table->name), 0.0f, 2e-5);
  }
  return finish("kernels_test");
}
