#include "cpu.h"

#include <cstdlib>
#include <string>

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

#include "error.h"

namespace ek {
namespace {

struct Candidate {
  const Kernels *kernels;
  bool (*runs)();
};

bool always() { return true; }

#if defined(__x86_64__)
/* __builtin_cpu_supports checks CPUID and, for AVX and AVX-512, XCR0: whether the system saves their registers. */
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"); }
bool has_avx512vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

/* Tiles are 8 KB of state per thread. Linux saves them only for a process that requests permission, before it starts threads
 * that use them. Sources: Documentation/arch/x86/xstate.rst in the Linux kernel; Intel SDM, volume 1, chapter 13, for the
 * bits of CPUID leaf 7 and of XCR0. */
bool has_amx() {
#if defined(__linux__)
  constexpr unsigned kTile = 1u << 24, kTileBf16 = 1u << 22, kAvx512Bf16 = 1u << 5, kOsXsave = 1u << 27, kTileState = 3u << 17;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned a, b, c, d;
  if (!has_avx512vnni() || !__get_cpuid(1, &a, &b, &c, &d) || !(c & kOsXsave)) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kTile) || !(d & kTileBf16)) return false;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & kAvx512Bf16)) return false;
  __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return (a & kTileState) == kTileState && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#elif defined(__aarch64__) && defined(__linux__)
/* Linux and Android report the usable extensions in the auxiliary vector. */
#ifndef HWCAP2_I8MM
#define HWCAP2_I8MM (1 << 13) /* missing from headers before Linux 5.6 */
#endif
bool has_neon_dotprod() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
bool has_neon_i8mm() { return has_neon_dotprod() && getauxval(AT_HWCAP2) & HWCAP2_I8MM; }
#elif defined(__aarch64__) && defined(__APPLE__)
bool has_feature(const char *name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_neon_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool has_neon_i8mm() { return has_neon_dotprod() && has_feature("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__aarch64__)
/* Detection is not implemented for this system. */
bool has_neon_dotprod() { return false; }
bool has_neon_i8mm() { return false; }
#endif

/* The fastest first. */
const Candidate kCandidates[] = {
#if defined(__x86_64__)
    {&kAmx, has_amx},
    {&kAvx512Vnni, has_avx512vnni},
    {&kAvx2, has_avx2},
#elif defined(__aarch64__)
    {&kNeonI8mm, has_neon_i8mm},
    {&kNeonDotprod, has_neon_dotprod},
#endif
    {&kScalar, always},
};

}  // namespace

std::vector<const Kernels *> known_kernels() {
  std::vector<const Kernels *> known;
  for (const Candidate &candidate : kCandidates) known.push_back(candidate.kernels);
  return known;
}

bool runs_here(const Kernels &kernels) {
  for (const Candidate &candidate : kCandidates)
    if (candidate.kernels == &kernels) return candidate.runs();
  return false;
}

const Kernels &choose_kernels() {
  const char *forced = std::getenv("EDGEKIT_ISA");
  std::string known, usable;
  for (const Candidate &candidate : kCandidates) {
    const bool runs = candidate.runs();
    if (forced && *forced) {
      if (std::string(forced) == candidate.kernels->name && runs) return *candidate.kernels;
    } else if (runs) {
      return *candidate.kernels;
    }
    known += std::string(known.empty() ? "" : ", ") + candidate.kernels->name;
    if (runs) usable += std::string(usable.empty() ? "" : ", ") + candidate.kernels->name;
  }
  fail(EK_UNSUPPORTED,
       "EDGEKIT_ISA is '%s', which cannot be used here; this build has %s; this processor supports %s",
       forced, known.c_str(), usable.c_str());
}

}  // namespace ek
