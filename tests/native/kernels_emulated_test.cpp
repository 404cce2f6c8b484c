/* The tables whose instructions most machines lack, compiled against emulated/immintrin.h and held to kernel_checks.h: what
 * they compute is checked wherever AVX2 is, how fast they are nowhere. */
#include "kernel_checks.h"
#include "session_checks.h"

namespace {
/* A bfloat16 has 8 significant bits, so that rounding moves an activation by up to 2^-8 of itself: 30 / 256 where the one
 * column there is holds an outlier. */
[[maybe_unused]] constexpr float kBf16 = 0.12f;
/* A score, which is of the order of 1, and a weight may each be off by some 2^-8 of themselves, a value too. */
[[maybe_unused]] constexpr double kBf16Attention = 0.01;
}  // namespace

int main() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c")) {
    std::printf("this processor lacks AVX2, FMA or F16C: nothing was checked\n");
    return 0;
  }
  std::printf("%s, emulated\n", kAvx512Vnni.name);
  check_table(kAvx512Vnni, 0.0f, 2e-5);
  check_session(kAvx512Vnni, kOrder, kInt8Cache);
#ifdef EK_HAS_AMX
  std::printf("%s, emulated\n", kAmx.name);
  check_table(kAmx, kBf16, kBf16Attention);
  check_session(kAmx, kBf16Logits, kInt8Cache);
#endif
  return finish("kernels_emulated_test");
}
