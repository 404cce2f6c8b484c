#include "composition.h"

namespace ek {
namespace {

constexpr const char *kNames[kRoles] = {"decode", "few rows", "prefill", "attention", "elementwise"};

const Kernels *&part(Parts &parts, int role) { return parts[static_cast<size_t>(role)]; }

}  // namespace

const char *role_name(Role role) { return kNames[static_cast<int>(role)]; }

bool provides(const Kernels &table, Role role) {
  switch (role) {
    case Role::kDecode: return table.multiply_one;
    case Role::kFewRows: return table.multiply_few;
    case Role::kPrefill: return table.multiply_many;
    case Role::kAttention: return table.attend;
    case Role::kElementwise: return table.quantize_row;
  }
  return false;
}

void take(Kernels &to, const Kernels &from, Role role) {
  switch (role) {
    case Role::kDecode:
      to.multiply_one = from.multiply_one;
      to.multiply_alike = from.multiply_alike;
      break;
    case Role::kFewRows: to.multiply_few = from.multiply_few; break;
    case Role::kPrefill:
      to.pack_bytes = from.pack_bytes;
      to.pack = from.pack;
      to.multiply_many = from.multiply_many;
      to.multiply_many_scratch = from.multiply_many_scratch;
      to.spin = from.spin;
      to.prefill_rows = from.prefill_rows;
      break;
    case Role::kAttention:
      to.attend = from.attend;
      to.attend_scratch = from.attend_scratch;
      to.attends_in_bf16 = from.attends_in_bf16;
      break;
    case Role::kElementwise:
      to.quantize_row = from.quantize_row;
      to.rms_norm = from.rms_norm;
      to.silu_multiply = from.silu_multiply;
      to.rotate = from.rotate;
      to.store_kv = from.store_kv;
      break;
  }
}

Parts first_parts(const std::vector<const Kernels *> &tables) {
  Parts parts{};
  for (int role = 0; role < kRoles; ++role)
    for (const Kernels *table : tables)
      if (!part(parts, role) && provides(*table, static_cast<Role>(role))) part(parts, role) = table;
  return parts;
}

std::string composed_name(const Parts &parts) {
  const Kernels *base = parts[static_cast<size_t>(Role::kElementwise)];
  std::string name = base->name;
  for (int role = 0; role < kChosenRoles; ++role) {
    const Kernels *from = parts[static_cast<size_t>(role)];
    if (from != base) name += std::string(", ") + kNames[role] + " " + from->name;
  }
  return name;
}

Kernels compose(const Parts &parts, const char *name) {
  Kernels composed{};
  composed.name = name;
  for (int role = 0; role < kRoles; ++role) take(composed, *parts[static_cast<size_t>(role)], static_cast<Role>(role));
  return composed;
}

}  // namespace ek
