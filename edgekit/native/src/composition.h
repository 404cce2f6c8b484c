/* Puts one table of kernels together from functions of several. All tables share the forms of activations and of the KV
 * cache, so functions of different tables work together. */
#ifndef EDGEKIT_SRC_COMPOSITION_H
#define EDGEKIT_SRC_COMPOSITION_H

#include <array>
#include <string>
#include <vector>

#include "../kernels/kernels.h"

namespace ek {

/* Functions that are taken from the same table. The first kChosenRoles are chosen by measuring; kElementwise is not worth it. */
enum class Role {
  kDecode,      /* multiply_one, multiply_alike */
  kFewRows,     /* multiply_few */
  kPrefill,     /* pack_bytes, pack, multiply_many, multiply_many_scratch, spin */
  kAttention,   /* attend, attend_scratch, attends_in_bf16 */
  kElementwise, /* quantize_row, rms_norm, silu_multiply, rotate, store_kv */
};
constexpr int kChosenRoles = 4, kRoles = 5;

/* "decode", "few rows", "prefill", "attention", "elementwise". */
const char *role_name(Role role);

/* Whether a table has the functions of a role. A table that has only some of them is a bug. */
bool provides(const Kernels &table, Role role);

/* Copy the functions of a role. */
void take(Kernels &to, const Kernels &from, Role role);

/* The table that provides each role, indexed by Role. */
using Parts = std::array<const Kernels *, kRoles>;

/* For each role, the first of the tables that provides it. Together the tables provide every role. */
Parts first_parts(const std::vector<const Kernels *> &tables);

/* The name of the table that provides kElementwise, and the roles that come from others: "avx512vnni, decode avx2". */
std::string composed_name(const Parts &parts);

/* The functions of all parts. `name` is kept, not copied. */
Kernels compose(const Parts &parts, const char *name);

}  // namespace ek

#endif
