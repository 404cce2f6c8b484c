/* Tests ek_quantize_rows with odd sizes, tails and extreme values, and with guard bytes after every output. The exact results
 * are tested by tests/quantize/test_rtn.py; this test is about memory and error bounds. */
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "check.h"
#include "edgekit_tools.h"

namespace {

constexpr uint8_t kGuard = 0xA5;
constexpr size_t kGuardBytes = 64;

struct Guarded {
  std::vector<uint8_t> bytes;
  explicit Guarded(size_t size) : bytes(size + kGuardBytes, kGuard) {}
  uint8_t *data() { return bytes.data(); }
  bool whole() const {
    for (size_t i = bytes.size() - kGuardBytes; i < bytes.size(); ++i)
      if (bytes[i] != kGuard) return false;
    return true;
  }
};

Random random_numbers{1};

float half_to_float(uint16_t h) {
  const int exponent = (h >> 10) & 31, fraction = h & 1023;
  const double value = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
  return static_cast<float>(h & 0x8000 ? -value : value);
}

/* Quantize and dequantize: the error is at most that of absmax quantization. */
void round_trip(int64_t n, int64_t k, int bits, int block, bool symmetric, int scale_dtype, float magnitude) {
  const int64_t blocks = (k + block - 1) / block, blob = block * bits / 8, zero_row = (blocks * bits + 7) / 8;
  const size_t scale_size = scale_dtype == EK_FLOAT16 ? 2 : 4;
  std::vector<float> rows(static_cast<size_t>(n * k));
  for (float &x : rows) x = random_numbers.real() * magnitude;
  Guarded codes(static_cast<size_t>(n * blocks * blob)), scales(static_cast<size_t>(n * blocks) * scale_size);
  Guarded zeros(static_cast<size_t>(n * zero_row));
  int64_t bad = -1;
  CHECK(ek_quantize_rows(rows.data(), EK_FLOAT32, n, k, bits, block, symmetric, scale_dtype, codes.data(),
                         scales.data(), symmetric ? nullptr : zeros.data(), &bad) == EK_OK);
  CHECK(codes.whole() && scales.whole() && zeros.whole());
  for (int64_t r = 0; r < n; ++r)
    for (int64_t b = 0; b < blocks; ++b) {
      float scale;
      if (scale_dtype == EK_FLOAT16) {
        uint16_t h;
        std::memcpy(&h, scales.data() + (r * blocks + b) * 2, 2);
        scale = half_to_float(h);
      } else {
        std::memcpy(&scale, scales.data() + (r * blocks + b) * 4, 4);
      }
      int zero = 1 << (bits - 1);
      if (!symmetric)
        zero = bits == 8 ? zeros.data()[r * zero_row + b] : zeros.data()[r * zero_row + b / 2] >> (b % 2 * 4) & 15;
      double error = 0, power = 0, largest = 0;
      for (int64_t i = b * block; i < k && i < (b + 1) * block; ++i) {
        const uint8_t *blob_at = codes.data() + (r * blocks + b) * blob;
        const int64_t j = i - b * block;
        const int code = bits == 8 ? blob_at[j] : blob_at[j / 2] >> (j % 2 * 4) & 15;
        const double x = rows[static_cast<size_t>(r * k + i)], difference = scale * (code - zero) - x;
        error += difference * difference;
        power += x * x;
        largest = std::fmax(largest, std::fabs(x));
      }
      const double count = static_cast<double>(std::fmin(block, k - b * block));
      const double step = largest / ((1 << (bits - 1)) - 1);
      /* absmax: at most half a step per weight. A float16 scale adds half a unit in the last place, 2^-25 below 6e-5, per code. */
      const double coarse = scale_dtype == EK_FLOAT16 ? std::ldexp((1 << bits) - 1, -25) : 0.0;
      const double most = 0.5 * step * 1.01 + coarse;
      const bool within = error <= count * most * most + 1e-12 * power;
      if (!within)
        std::printf("(%lld, %lld) %d bits, block %d, symmetric %d, magnitude %g: error %g, step %g, count %g, scale %g\n",
                    static_cast<long long>(n), static_cast<long long>(k), bits, block, symmetric,
                    static_cast<double>(magnitude), error, step, count, static_cast<double>(scale));
      CHECK(within);
    }
}

void narrow_types() {
  uint16_t half[32], brain[32];
  float wide[32];
  for (int i = 0; i < 32; ++i) {
    half[i] = static_cast<uint16_t>(0x3c00 + i * 7 + (i % 2 ? 0x8000 : 0));
    wide[i] = half_to_float(half[i]);
    brain[i] = static_cast<uint16_t>(0x3f80 + i);
  }
  uint8_t a[16], b[16];
  float sa, sb;
  CHECK(ek_quantize_rows(half, EK_FLOAT16, 1, 32, 4, 32, 1, EK_FLOAT32, a, &sa, nullptr, nullptr) == EK_OK);
  CHECK(ek_quantize_rows(wide, EK_FLOAT32, 1, 32, 4, 32, 1, EK_FLOAT32, b, &sb, nullptr, nullptr) == EK_OK);
  CHECK(sa == sb && std::memcmp(a, b, 16) == 0);
  CHECK(ek_quantize_rows(brain, EK_BFLOAT16, 1, 32, 4, 32, 1, EK_FLOAT32, a, &sa, nullptr, nullptr) == EK_OK);
}

void bad_arguments() {
  float x[32] = {1.0f}, scale;
  uint8_t codes[32], zero;
  int64_t bad = -1;
  auto call = [&](int64_t n, int64_t k, int bits, int block, int symmetric, int dtype, int scale_dtype, uint8_t *z) {
    return ek_quantize_rows(x, dtype, n, k, bits, block, symmetric, scale_dtype, codes, &scale, z, &bad);
  };
  CHECK(call(1, 32, 4, 32, 1, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_OK);
  CHECK(call(0, 32, 4, 32, 1, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_OK);
  CHECK(call(-1, 32, 4, 32, 1, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_BAD_ARGUMENT);
  CHECK(call(1, 0, 4, 32, 1, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_BAD_ARGUMENT);
  CHECK(call(1, 32, 3, 32, 1, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_BAD_ARGUMENT);
  CHECK(call(1, 32, 4, 24, 1, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_BAD_ARGUMENT);
  CHECK(call(1, 32, 4, 512, 1, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_BAD_ARGUMENT);
  CHECK(call(1, 32, 4, 32, 0, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_BAD_ARGUMENT);
  CHECK(call(1, 32, 4, 32, 0, EK_FLOAT32, EK_FLOAT32, &zero) == EK_OK);
  CHECK(call(1, 32, 4, 32, 1, 7, EK_FLOAT32, nullptr) == EK_BAD_ARGUMENT);
  CHECK(call(1, 32, 4, 32, 1, EK_FLOAT32, EK_BFLOAT16, nullptr) == EK_BAD_ARGUMENT);
  x[31] = NAN;
  CHECK(call(1, 32, 4, 32, 1, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_NON_FINITE && bad == 31);
  x[31] = 1e31f;
  CHECK(call(1, 32, 4, 32, 1, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_NON_FINITE && bad == 31);
  x[31] = 70000.0f;
  CHECK(call(1, 32, 4, 32, 1, EK_FLOAT32, EK_FLOAT32, nullptr) == EK_OK);
  CHECK(call(1, 32, 4, 32, 1, EK_FLOAT32, EK_FLOAT16, nullptr) == EK_NON_FINITE && bad == 31);
}

}  // namespace

int main() {
  CHECK(ek_abi_version() == EK_ABI_VERSION);
  for (int bits : {4, 8})
    for (int block : {16, 32, 48, 64, 128, 256})
      for (int symmetric : {0, 1})
        for (int64_t k : {1, 15, 16, 31, 33, 100, 257, 576})
          for (float magnitude : {1.0f, 0.02f, 3000.0f})
            for (int scale_dtype : {EK_FLOAT32, EK_FLOAT16})
              round_trip(3, k, bits, block, symmetric != 0, scale_dtype, magnitude);
  for (float magnitude : {1e-25f, 1e29f}) round_trip(2, 70, 4, 32, true, EK_FLOAT32, magnitude);
  narrow_types();
  bad_arguments();
  return finish("quantize_test");
}
