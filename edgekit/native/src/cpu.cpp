#include "cpu.h"

#include <cstdlib>
#include <string>

#if defined(__aarch64__) && defined(__linux__)
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
/* __builtin_cpu_supports reads CPUID and, for AVX and AVX-512, XCR0: whether the system saves those registers. */
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"); }
bool has_avx512vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__) && defined(__linux__)
/* What the kernel lets programs use; Android is Linux here. */
#ifndef HWCAP2_I8MM
#define HWCAP2_I8MM (1 << 13) /* headers before Linux 5.6 lack it */
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
/* A system we do not know how to ask. */
bool has_neon_dotprod() { return false; }
bool has_neon_i8mm() { return false; }
#endif

/* The best first. */
const Candidate kCandidates[] = {
#if defined(__x86_64__)
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
  fail(EK_UNSUPPORTED, "EDGEKIT_ISA is '%s'; this build has %s, this processor runs %s", forced, known.c_str(), usable.c_str());
}

}  // namespace ek
