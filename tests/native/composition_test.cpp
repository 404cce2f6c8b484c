/* Tests that functions of several tables are put together by roles, with tables whose functions do nothing. */
#include <cstring>

#include "check.h"
#include "src/composition.h"

using namespace ek;

namespace {

template <int kTable>
void one(const Matrix &, const QuantizedRow &, int64_t, int64_t, float *, bool) {}
template <int kTable>
void few(const Matrix &, const QuantizedRow *, int, int64_t, int64_t, float *, int64_t, bool) {}
template <int kTable>
void many(const Matrix &, const uint8_t *, int64_t, int64_t, int64_t, float *, int64_t, bool, uint8_t *) {}
template <int kTable>
void attend(const AttentionJob &, uint8_t *) {}
template <int kTable>
size_t scratch(int, int64_t) { return kTable; }
template <int kTable>
void quantize(const float *, int64_t, int, int, int64_t, int64_t, QuantizedRow) {}
template <int kTable>
int64_t spin(int64_t) { return kTable; }

template <int kTable>
Kernels whole(const char *name) {
  Kernels table{};
  table.name = name;
  table.multiply_one = one<kTable>;
  table.multiply_few = few<kTable>;
  table.multiply_alike = few<kTable>;
  table.multiply_many = many<kTable>;
  table.spin = spin<kTable>;
  table.prefill_rows = 100 * kTable;
  table.attend = attend<kTable>;
  table.attend_scratch = scratch<kTable>;
  table.quantize_row = quantize<kTable>;
  return table;
}

Kernels only_attention() {
  Kernels table{};
  table.name = "halves";
  table.attend = attend<3>;
  table.attend_scratch = scratch<3>;
  return table;
}

Parts parts(const Kernels &decode, const Kernels &few_rows, const Kernels &prefill, const Kernels &attention, const Kernels &rest) {
  return {&decode, &few_rows, &prefill, &attention, &rest};
}

}  // namespace

int main() {
  const Kernels fresh = whole<1>("new"), old = whole<2>("old"), halves = only_attention();
  for (int role = 0; role < kRoles; ++role) {
    CHECK(provides(fresh, static_cast<Role>(role)));
    CHECK(provides(halves, static_cast<Role>(role)) == (static_cast<Role>(role) == Role::kAttention));
  }
  CHECK(first_parts({&halves, &fresh, &old}) == parts(fresh, fresh, fresh, halves, fresh));
  CHECK(first_parts({&old}) == parts(old, old, old, old, old));
  CHECK(composed_name(parts(fresh, fresh, fresh, fresh, fresh)) == "new");
  CHECK(composed_name(parts(old, fresh, fresh, halves, fresh)) == "new, decode old, attention halves");
  CHECK(composed_name(parts(old, old, old, old, fresh)) == "new, decode old, few rows old, prefill old, attention old");

  const Kernels mixed = compose(parts(old, fresh, old, halves, fresh), "mixed");
  CHECK(std::strcmp(mixed.name, "mixed") == 0);
  CHECK(mixed.multiply_one == old.multiply_one && mixed.multiply_alike == old.multiply_alike && mixed.multiply_few == fresh.multiply_few);
  CHECK(mixed.multiply_many == old.multiply_many && mixed.spin == old.spin && mixed.prefill_rows == 200);
  CHECK(mixed.attend == halves.attend && mixed.attend_scratch == halves.attend_scratch);
  CHECK(mixed.quantize_row == fresh.quantize_row);
  return finish("composition_test");
}
