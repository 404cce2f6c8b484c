/* Tests the tables for AVX-512 and AMX, which most machines lack, with emulated instructions (emulated/immintrin.h): their
 * results are tested on every machine with AVX2, but not their speed. */
#include "kernel_checks.h"
#include "session_checks.h"

/* Argument: the name of one table; without it all are tested. */
int main(int argc, char **argv) {
  const auto chosen = [&](const Kernels &kernels) { return argc < 2 || std::strcmp(argv[1], kernels.name) == 0; };
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c")) {
    std::printf("this processor lacks AVX2, FMA or F16C: nothing was checked\n");
    return 0;
  }
  if (chosen(kAvx512Vnni)) {
    std::printf("%s, emulated\n", kAvx512Vnni.name);
    check_table(kAvx512Vnni, 0.0f, kFloatAttention);
    check_session(kAvx512Vnni, kOrder, kInt8Cache);
  }
  if (chosen(kAvx512Bf16)) {
    std::printf("%s, emulated\n", kAvx512Bf16.name);
    const Kernels complete = compose(first_parts({&kAvx512Bf16, &kAvx512Vnni}), kAvx512Bf16.name);
    check_parts(kAvx512Bf16, complete, 0.0f, kBf16Attention);
    check_session(complete, kBf16Logits, kInt8Cache);
  }
  if (chosen(kAmx)) {
    std::printf("%s, emulated\n", kAmx.name);
    check_table(kAmx, kBf16, kBf16Attention);
    check_session(kAmx, kBf16Logits, kInt8Cache);
  }
  return finish("kernels_emulated_test");
}
