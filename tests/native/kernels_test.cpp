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
    const bool amx = std::strcmp(table->name, "amx") == 0;
    check_parts(*table, kernels_named(table->name), amx ? kBf16 : 0.0f, table->attends_in_bf16 ? kBf16Attention : kFloatAttention);
  }
  return finish("kernels_test");
}
