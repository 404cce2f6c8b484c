/* Tests which kernels are known and run here, and the name of the processor. An optional argument is the name of the newest
 * table that must run. */
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "check.h"
#include "src/cpu.h"
#include "src/error.h"

using namespace ek;

namespace {

/* The status of kernels_named, and its message. */
ek_status refused(const char *name, std::string *message) {
  try {
    kernels_named(name);
    return EK_OK;
  } catch (const Error &error) {
    *message = error.what();
    return error.status;
  }
}

/* A table has all functions of a role or none. */
void whole_roles(const Kernels &table) {
  CHECK(!table.pack_bytes == !table.multiply_many && !table.pack == !table.multiply_many);
  CHECK(!table.multiply_many_scratch == !table.multiply_many && !table.spin == !table.multiply_many);
  CHECK(!table.attend_scratch == !table.attend);
  CHECK(!table.rms_norm == !table.quantize_row && !table.silu_multiply == !table.quantize_row);
  CHECK(!table.rotate == !table.quantize_row && !table.store_kv == !table.quantize_row);
}

void names() {
  std::string said;
  CHECK(refused("mmx", &said) == EK_BAD_ARGUMENT && said.find("unknown kernel 'mmx'") == 0);
  for (const Kernels *table : known_kernels()) {
    CHECK(said.find(table->name) != std::string::npos);
    whole_roles(*table);
    std::string other;
    CHECK(refused(table->name, &other) == (runs_here(*table) ? EK_OK : EK_UNSUPPORTED));
    if (!runs_here(*table)) continue;
    const Kernels &complete = kernels_named(table->name);
    CHECK(std::strcmp(complete.name, table->name) == 0);
    for (int role = 0; role < kRoles; ++role) {
      CHECK(provides(complete, static_cast<Role>(role)));
      const Parts parts = parts_of(*table);
      if (provides(*table, static_cast<Role>(role))) CHECK(parts[static_cast<size_t>(role)] == table);
    }
    CHECK(kernels_named(table->name).multiply_many == parts_of(*table)[2]->multiply_many);
  }
  for (const Kernels &kernels : complete_kernels()) {
    CHECK(!float_attention(kernels).attends_in_bf16);
    CHECK(kernels.attends_in_bf16 || &float_attention(kernels) == &kernels);
  }
  CHECK(runs_here(kScalar) && known_kernels().back() == &kScalar);
  CHECK(complete_kernels().size() == runnable_kernels().size());
}

#if defined(__x86_64__) && defined(__linux__)
/* Linux lists what the processor has and the system supports. */
void flags() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && line.compare(0, 5, "flags") != 0) {
  }
  if (line.empty()) return;
  line += ' ';
  const auto listed = [&](const std::vector<std::string> &names) {
    return std::all_of(names.begin(), names.end(), [&](const std::string &name) { return line.find(' ' + name + ' ') + 1; });
  };
  const bool avx2 = listed({"avx2", "fma", "f16c"});
  const bool vnni = avx2 && listed({"avx512f", "avx512bw", "avx512vl", "avx512_vnni"});
  CHECK(runs_here(kAvx2) == avx2);
  CHECK(runs_here(kAvx512Vnni) == vnni);
  CHECK(runs_here(kAvx512Bf16) == (vnni && listed({"avx512dq", "avx512_bf16"})));
}
#endif

void models() {
  CHECK(processor_model() == processor_model());
  CHECK(processor_model().find('\n') == std::string::npos);
#if defined(__aarch64__) && defined(__linux__)
  namespace fs = std::filesystem;
  const fs::path root = fs::temp_directory_path() / ("edgekit_cpu_" + std::to_string(::getpid()));
  const auto put = [&](const std::string &path, const std::string &text) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text << "\n";
  };
  CHECK(processor_model(root.string()).empty());
  put("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nprocessor\t: 1\nCPU implementer\t: 0x41");
  CHECK(processor_model(root.string()) == "CPU implementer\t: 0x41, CPU part\t: 0xd0b");
  put("sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "0x00000000414fd0b1");
  CHECK(processor_model(root.string()) == "MIDR 0x00000000414fd0b1");
  fs::remove_all(root);
#else
  CHECK(!processor_model().empty());
#endif
}

}  // namespace

int main(int argc, char **argv) {
  names();
#if defined(__x86_64__) && defined(__linux__)
  flags();
#endif
  models();
  const char *newest = runnable_kernels().front()->name;
  if (argc > 1) CHECK(std::strcmp(newest, argv[1]) == 0);
  std::printf("%s, %s\n", newest, processor_model().c_str());
  return finish("cpu_test");
}
