/* A libFuzzer target. The input chooses the arguments of single operations: quantizing, multiplying and attention. Arrays are as
 * large as the arguments say, and no larger. Arguments that are possible must work, and others give a status. */
#include "fuzz_input.h"

namespace {

constexpr int64_t kMost = 2000; /* more elements of an array are possible, but take too long */

class Operation {
 public:
  explicit Operation(Input in) : in_(in) {}

  void run() {
    for (int i = 0; i < 4 && in_.at != in_.end; ++i) switch (in_.byte() % 3) {
        case 0: quantize(); break;
        case 1: multiply(); break;
        default: attend();
      }
  }

 private:
  /* Numbers of the input, of which few are not finite. */
  std::vector<float> floats(int64_t count) {
    std::vector<float> made(static_cast<size_t>(count));
    const uint8_t some = in_.byte();
    for (float &x : made) x = static_cast<float>(static_cast<int8_t>(in_.byte())) / 16;
    if (some % 8 == 0 && count) made[some / 8 % made.size()] = in_.real();
    return made;
  }
  std::vector<uint8_t> bytes(int64_t count) {
    std::vector<uint8_t> made(static_cast<size_t>(count));
    for (uint8_t &x : made) x = in_.byte();
    return made;
  }
  /* One of the numbers that an argument may be, rarely another. */
  int one_of(std::initializer_list<int> possible) {
    if (in_.byte() % 16 == 0) return static_cast<int>(in_.number());
    return *(possible.begin() + in_.byte() % possible.size());
  }
  template <typename T>
  T *rarely_null(std::vector<T> &of) {
    return in_.byte() % 32 ? of.data() : nullptr;
  }
  static bool small(int64_t a, int64_t b) { return a <= 0 || b <= 0 || (a <= kMost && b <= kMost && a * b <= kMost); }

  void quantize() {
    const int64_t n = in_.number(), k = in_.number();
    const int bits = one_of({4, 8}), block = one_of({16, 32, 48, 64, 128, 256}), type = one_of({EK_FLOAT32, EK_FLOAT16, EK_BFLOAT16}),
              scale_type = one_of({EK_FLOAT32, EK_FLOAT16}), symmetric = in_.byte() % 2;
    if (!small(n, k)) return;
    const bool possible = (bits == 4 || bits == 8) && block >= 16 && block <= 256;
    const int64_t rows = possible && k > 0 ? std::max<int64_t>(n, 0) : 0, blocks = rows ? (k + block - 1) / block : 0, elements = rows ? rows * k : 0;
    std::vector<float> values = floats(elements); /* also as 16-bit numbers: any bits are one */
    std::vector<uint8_t> codes(static_cast<size_t>(rows ? rows * blocks * (block * bits / 8) : 0));
    std::vector<float> scales(static_cast<size_t>(rows * blocks));
    std::vector<uint8_t> zeros(static_cast<size_t>(rows ? rows * ((blocks * bits + 7) / 8) : 0));
    int64_t bad = -1;
    const bool no_zeros = symmetric && in_.byte() % 2;
    const int status = checked(ek_quantize_rows(rarely_null(values), type, n, k, bits, block, symmetric, scale_type, rarely_null(codes), scales.data(),
                                                no_zeros ? nullptr : zeros.data(), in_.byte() % 4 ? &bad : nullptr));
    if (status == EK_OK) expect(possible && n >= 0);
    if (status == EK_NON_FINITE && bad != -1) expect(bad >= 0 && bad < elements);
  }

  void multiply() {
    ek_matrix w{};
    w.n = in_.number();
    w.k = in_.number();
    w.bits = one_of({4, 8});
    w.block_size = one_of({32, 64, 128});
    w.scale_dtype = one_of({EK_FLOAT32, EK_FLOAT16});
    const int64_t m = in_.number();
    if (!small(w.n, w.k) || !small(m, w.k) || !small(m, w.n)) return;
    const bool possible = w.n > 0 && w.k > 0 && m > 0 && (w.bits == 4 || w.bits == 8) && (w.block_size == 32 || w.block_size == 64 || w.block_size == 128);
    const int64_t blocks = possible ? (w.k + w.block_size - 1) / w.block_size : 0, n = possible ? w.n : 0;
    std::vector<uint8_t> codes = bytes(n * blocks * (possible ? w.block_size * w.bits / 8 : 0)), zeros = bytes(n * ((blocks * (possible ? w.bits : 0) + 7) / 8));
    std::vector<float> scales = floats(n * blocks), bias = floats(n), x = floats(possible ? m * w.k : 0), y(static_cast<size_t>(possible ? m * n : 0));
    std::vector<uint16_t> halves(static_cast<size_t>(n * blocks), 0x3c00);
    w.codes = rarely_null(codes);
    w.scales = w.scale_dtype == EK_FLOAT16 ? static_cast<const void *>(halves.data()) : scales.data();
    w.zero_points = in_.byte() % 2 ? zeros.data() : nullptr;
    w.bias = in_.byte() % 2 ? bias.data() : nullptr;
    const char *const kernels[] = {nullptr, "scalar", "avx2", "avx512vnni", "amx", "", "none"};
    const int status = checked(ek_multiply(kernels[in_.byte() % 7], in_.byte() % 32 ? &w : nullptr, rarely_null(x), m, in_.byte() % 2, y.data()));
    if (status == EK_OK) expect(possible);
  }

  void attend() {
    const int64_t tokens = in_.number(), heads = in_.byte() % 8 ? in_.byte() % 9 : in_.number(), kv_heads = in_.byte() % 8 ? in_.byte() % 5 : in_.number(),
                  size = one_of({16, 32, 48});
    const auto in_range = [](int64_t x) { return x > 0 && x <= 64; };
    const bool allocates = in_range(tokens) && in_range(heads) && in_range(kv_heads) && in_range(size);
    if (!allocates && tokens > 0 && heads > 0 && kv_heads > 0 && size > 0) return;
    if (allocates && tokens * (heads + 2 * kv_heads) * size > 40 * kMost) return;
    std::vector<float> qkv = floats(allocates ? tokens * (heads + 2 * kv_heads) * size : 0), y(static_cast<size_t>(allocates ? tokens * heads * size : 0));
    std::vector<float> cos = floats(allocates ? tokens * (size / 2) : 0), sin = cos;
    static const int odd[] = {0, 2, -1, 1025};
    const int threads = in_.byte() % 64 ? 1 : odd[in_.byte() % 4]; /* threads would wait for each other on a machine that fuzzes with all its processors */
    const int status = checked(ek_attend(rarely_null(qkv), tokens, heads, kv_heads, size, cos.data(), sin.data(), threads, y.data()));
    if (status == EK_OK) expect(allocates && size % 16 == 0 && heads % kv_heads == 0);
  }

  Input in_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Operation(Input{bytes, bytes + size}).run();
  return 0;
}
