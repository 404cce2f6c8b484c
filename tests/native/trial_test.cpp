/* Tests that trials measure every role of every table that runs here. No speed is compared with a number. */
#include <cmath>

#include "check.h"
#include "src/cpu.h"
#include "src/trial.h"

using namespace ek;

int main() {
  Trials trials(complete_kernels().front());
  for (int role = 0; role < kChosenRoles; ++role) {
    std::vector<const Kernels *> tables;
    for (const Kernels *table : runnable_kernels())
      if (table != &kScalar && provides(*table, static_cast<Role>(role))) tables.push_back(table);
    const std::vector<double> rates = trials.measure(static_cast<Role>(role), tables);
    CHECK(rates.size() == tables.size());
    for (size_t i = 0; i < rates.size(); ++i) {
      CHECK(std::isfinite(rates[i]) && rates[i] > 0);
      std::printf("%s, %s: %.1f x 10^9 multiply-adds/s\n", role_name(static_cast<Role>(role)), tables[i]->name, rates[i] / 1e9);
    }
  }
  return finish("trial_test");
}
