#include "cpu.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <set>
#include <thread>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "cgroup.h"
#include "error.h"
#include "topology.h"

namespace ek {
namespace {

struct Candidate {
  const Kernels *table;
  bool (*runs)();
};

bool always() { return true; }

#if defined(__x86_64__)
/* CPUID says what the processor has, XCR0 which registers the system saves. Not __builtin_cpu_supports: zig links a version
 * that always says no. Source of the bits: Intel SDM, volume 2, CPUID; volume 1, chapter 13, for XCR0. */
struct Features {
  unsigned ecx1 = 0, ebx7 = 0, ecx7 = 0, edx7 = 0, eax71 = 0, xcr0 = 0; /* by register, leaf and subleaf */
};

const Features &features() {
  static const Features found = [] {
    Features f;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid(1, &a, &b, &f.ecx1, &d) && f.ecx1 & 1u << 27) __asm__("xgetbv" : "=a"(f.xcr0), "=d"(d) : "c"(0));
    __get_cpuid_count(7, 0, &a, &f.ebx7, &f.ecx7, &f.edx7);
    if (a >= 1) __get_cpuid_count(7, 1, &f.eax71, &b, &c, &d);
    return f;
  }();
  return found;
}

bool has(unsigned value, unsigned bits) { return (value & bits) == bits; }

bool has_avx2() {
  constexpr unsigned kFma = 1u << 12, kAvx = 1u << 28, kF16c = 1u << 29, kAvx2 = 1u << 5, kYmm = 6;
  const Features &f = features();
  return has(f.ecx1, kFma | kAvx | kF16c) && has(f.ebx7, kAvx2) && has(f.xcr0, kYmm);
}

bool has_avx512vnni() {
  constexpr unsigned kF = 1u << 16, kBw = 1u << 30, kVl = 1u << 31, kVnni = 1u << 11, kZmm = 0xe0;
  const Features &f = features();
  return has_avx2() && has(f.ebx7, kF | kBw | kVl) && has(f.ecx7, kVnni) && has(f.xcr0, kZmm);
}

bool has_avx512bf16() {
  constexpr unsigned kDq = 1u << 17, kBf16 = 1u << 5;
  return has_avx512vnni() && has(features().ebx7, kDq) && has(features().eax71, kBf16);
}

/* Tiles are 8 KB of state per thread. Linux saves them only for a process that requests permission, before it starts threads
 * that use them. Source: Documentation/arch/x86/xstate.rst in the Linux kernel. */
bool has_amx() {
#if defined(__linux__)
  constexpr unsigned kTile = 1u << 24, kTileBf16 = 1u << 22, kTileState = 3u << 17;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return has_avx512bf16() && has(features().edx7, kTile | kTileBf16) && has(features().xcr0, kTileState) &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#elif defined(__aarch64__) && defined(__linux__)
/* Linux and Android report the usable extensions in the auxiliary vector. */
#ifndef HWCAP2_I8MM
#define HWCAP2_I8MM (1 << 13) /* missing from headers before Linux 5.6 */
#endif
#ifndef HWCAP2_BF16
#define HWCAP2_BF16 (1 << 14)
#endif
bool has_neon_bf16() { return getauxval(AT_HWCAP2) & HWCAP2_BF16; }
bool has_neon_dotprod() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
bool has_neon_i8mm() { return has_neon_dotprod() && getauxval(AT_HWCAP2) & HWCAP2_I8MM; }
#elif defined(__aarch64__) && defined(__APPLE__)
bool has_feature(const char *name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_neon_bf16() { return has_feature("hw.optional.arm.FEAT_BF16"); }
bool has_neon_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_neon_i8mm() { return has_neon_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__aarch64__)
/* Detection is not implemented for this system. */
bool has_neon_bf16() { return false; }
bool has_neon_dotprod() { return false; }
bool has_neon_i8mm() { return false; }
#endif

/* The newest first; a table without products stands before the one that completes it (parts_of). */
const Candidate kCandidates[] = {
#if defined(__x86_64__)
    {&kAmx, has_amx},
    {&kAvx512Bf16, has_avx512bf16},
    {&kAvx512Vnni, has_avx512vnni},
    {&kAvx2, has_avx2},
#elif defined(__aarch64__)
    {&kNeonBf16, has_neon_bf16},
    {&kNeonI8mm, has_neon_i8mm},
    {&kNeonDotprod, has_neon_dotprod},
#endif
    {&kScalar, always},
};

#if defined(__x86_64__)
std::string registers_as_text(std::initializer_list<unsigned> registers) {
  std::string text;
  for (const unsigned value : registers)
    for (int byte = 0; byte < 4; ++byte)
      if (const char c = static_cast<char>(value >> 8 * byte & 127); c >= 32) text += c;
  return text;
}
#elif defined(__aarch64__) && !defined(__APPLE__)
/* The lines of /proc/cpuinfo that identify cores, each once, for a system that does not show their registers. */
std::string cores_of_cpuinfo(const std::string &root) {
  std::set<std::string> lines;
  const std::string text = read_text(root + "/proc/cpuinfo");
  for (size_t at = 0, end; at < text.size(); at = end + 1) {
    end = std::min(text.find('\n', at), text.size());
    for (const char *key : {"CPU implementer", "CPU part"})
      if (text.compare(at, std::strlen(key), key) == 0) lines.insert(text.substr(at, end - at));
  }
  std::string joined;
  for (const std::string &line : lines) joined += (joined.empty() ? "" : ", ") + line;
  return joined;
}
#endif

}  // namespace

std::vector<const Kernels *> known_kernels() {
  std::vector<const Kernels *> known;
  for (const Candidate &candidate : kCandidates) known.push_back(candidate.table);
  return known;
}

bool runs_here(const Kernels &table) {
  for (const Candidate &candidate : kCandidates)
    if (candidate.table == &table) return candidate.runs();
  return false;
}

std::vector<const Kernels *> runnable_kernels() {
  std::vector<const Kernels *> runnable;
  for (const Candidate &candidate : kCandidates)
    if (candidate.runs()) runnable.push_back(candidate.table);
  return runnable;
}

Parts parts_of(const Kernels &table) {
  std::vector<const Kernels *> tables = runnable_kernels();
  tables.erase(tables.begin(), std::find(tables.begin(), tables.end(), &table));
  return first_parts(tables);
}

const std::vector<Kernels> &complete_kernels() {
  static const std::vector<Kernels> complete = [] {
    std::vector<Kernels> each;
    for (const Kernels *table : runnable_kernels()) each.push_back(compose(parts_of(*table), table->name));
    return each;
  }();
  return complete;
}

const Kernels &float_attention(const Kernels &kernels) {
  if (!kernels.attends_in_bf16) return kernels;
  const std::vector<Kernels> &all = complete_kernels();
  return *std::find_if(all.begin(), all.end(), [](const Kernels &each) { return !each.attends_in_bf16; }); /* scalar at least */
}

const Kernels &kernels_named(const std::string &name) {
  for (const Kernels &kernels : complete_kernels())
    if (name == kernels.name) return kernels;
  std::string known;
  for (const Candidate &candidate : kCandidates) {
    if (name == candidate.table->name) fail(EK_UNSUPPORTED, "this processor does not support the kernel '%s'", name.c_str());
    known += (known.empty() ? "" : ", ") + std::string(candidate.table->name);
  }
  fail(EK_BAD_ARGUMENT, "unknown kernel '%s'; this build has %s", name.c_str(), known.c_str());
}

std::string processor_model(const std::string &root) {
#if defined(__x86_64__)
  (void)root;
  unsigned a = 0, b = 0, c = 0, d = 0, brand[4];
  __get_cpuid(0, &a, &b, &c, &d);
  std::string model = registers_as_text({b, d, c});
  __get_cpuid(1, &a, &b, &c, &d); /* eax: family, model and stepping */
  char number[24];
  std::snprintf(number, sizeof number, " %08x ", a);
  model += number;
  for (unsigned leaf = 0x80000002; leaf <= 0x80000004; ++leaf)
    if (__get_cpuid(leaf, &brand[0], &brand[1], &brand[2], &brand[3]))
      model += registers_as_text({brand[0], brand[1], brand[2], brand[3]});
  return model;
#elif defined(__APPLE__)
  (void)root;
  char name[128] = "";
  size_t size = sizeof name - 1;
  return sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0 ? name : "";
#elif defined(__aarch64__)
  std::vector<int> cpus = this_topology(root).fast_cpus; /* none: all cores are alike or their speeds are unknown */
  if (cpus.empty())
    for (int cpu = 0; cpu < static_cast<int>(std::thread::hardware_concurrency()); ++cpu) cpus.push_back(cpu);
  std::set<std::string> models;
  for (const int cpu : cpus) {
    const std::string folder = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu);
    models.insert(read_text(folder + "/regs/identification/midr_el1"));
  }
  models.erase("");
  if (models.empty()) return cores_of_cpuinfo(root);
  std::string joined;
  for (const std::string &model : models) joined += (joined.empty() ? "MIDR " : ", ") + model;
  return joined;
#else
  (void)root;
  return "";
#endif
}

}  // namespace ek
