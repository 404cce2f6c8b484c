/* Tests the choice of kernels by the processor and by EDGEKIT_ISA. An optional argument is the name of the table that must be
 * chosen. */
#include <cstdlib>
#include <cstring>
#include <string>

#include "check.h"
#include "src/cpu.h"
#include "src/error.h"

using namespace ek;

namespace {

/* The name of the table chosen if EDGEKIT_ISA is `name`, or the error message. */
std::string choose(const char *name) {
  setenv("EDGEKIT_ISA", name, 1);
  try {
    return choose_kernels().name;
  } catch (const Error &error) {
    CHECK(error.status == EK_UNSUPPORTED);
    return error.what();
  }
}

}  // namespace

int main(int argc, char **argv) {
  const Kernels *best = nullptr;
  for (const Kernels *kernels : known_kernels()) {
    const bool runs = runs_here(*kernels);
    if (runs && !best) best = kernels;
    CHECK((choose(kernels->name) == kernels->name) == runs);
  }
  CHECK(best && choose("") == best->name);
  CHECK(runs_here(kScalar));
  CHECK(choose("mmx").find("EDGEKIT_ISA is 'mmx'") == 0);
  if (argc > 1) CHECK(std::strcmp(best->name, argv[1]) == 0);
  std::printf("%s\n", best->name);
  return finish("cpu_test");
}
