/* Tests that trials measure every role of every table that runs here, and which of given speeds wins. No measured speed is
 * compared with a number. */
#include <cmath>

#include "check.h"
#include "src/cpu.h"
#include "src/trial.h"

using namespace ek;

namespace {

void fastest_tables() {
  static const Kernels tables[3] = {};
  const auto check = [&](double first, double second, double third, int expected) {
    CHECK(fastest({{Role::kDecode, &tables[0], first}, {Role::kDecode, &tables[1], second}, {Role::kDecode, &tables[2], third}}) ==
          &tables[expected]);
  };
  check(0, 0, 0, 0);     /* not measured */
  check(100, 104, 0, 0); /* not clearly faster */
  check(100, 106, 0, 1);
  check(100, 104, 106, 2);
  check(100, 106, 110, 1); /* not clearly faster than the second */
  check(100, 10, 200, 2);
}

void measured() {
  std::vector<MeasuredSpeed> speeds;
  for (int role = 0; role < kChosenRoles; ++role)
    for (const Kernels *table : runnable_kernels())
      if (table != &kScalar && provides(*table, static_cast<Role>(role))) /* scalar takes a second */
        speeds.push_back({static_cast<Role>(role), table, 0});
  const std::vector<MeasuredSpeed> asked = speeds;
  measure_speeds(speeds, complete_kernels().front());
  CHECK(speeds.size() == asked.size());
  for (size_t i = 0; i < speeds.size(); ++i) {
    CHECK(speeds[i].role == asked[i].role && speeds[i].table == asked[i].table);
    CHECK(std::isfinite(speeds[i].rate) && speeds[i].rate > 0 && speeds[i].rate == std::floor(speeds[i].rate));
    std::printf("%s, %s: %.1f x 10^9 multiply-adds/s\n", role_name(speeds[i].role), speeds[i].table->name, speeds[i].rate / 1e9);
  }
}

}  // namespace

int main() {
  fastest_tables();
  measured();
  std::vector<MeasuredSpeed> none;
  measure_speeds(none, complete_kernels().front());
  return finish("trial_test");
}
