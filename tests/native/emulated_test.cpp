/* Tests the emulated instructions against values computed by hand. The checks of the kernels rely on them. */
#include <immintrin.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "check.h"

namespace {

const __m512i kCount = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
const __m512i kFrom16 = _mm512_add_epi32(kCount, _mm512_set1_epi32(16));

template <typename T, typename V>
T lane(const V &v, int i) {
  return emu::lanes<T>(v)[i];
}

template <typename T, typename V, typename... Values>
bool equals(const V &v, Values... values) {
  const T expected[] = {static_cast<T>(values)...};
  return std::memcmp(&v, expected, sizeof expected) == 0;
}

void products() {
  const __m512i bytes = _mm512_set1_epi32(static_cast<int>(0xff01807f)); /* from the low byte: 127, 128, 1, 255 */
  CHECK(lane<int32_t>(_mm512_dpbusd_epi32(_mm512_set1_epi32(7), bytes, bytes), 5) == 7 + 127 * 127 - 128 * 128 + 1 - 255);
  CHECK(lane<int32_t>(_mm256_dpbusd_epi32(_mm256_set1_epi32(7), _mm256_set1_epi8(-1), _mm256_set1_epi8(-2)), 7) == 7 - 4 * 255 * 2);
  const __m512i words = _mm512_set1_epi32(-3 * 65536 + 32767); /* 32767 and, one carried, -3 */
  CHECK(lane<int32_t>(_mm512_dpwssd_epi32(_mm512_set1_epi32(7), words, words), 5) == 7 + 32767 * 32767 + 9);
  CHECK(lane<int16_t>(_mm512_cvtepi8_epi16(_mm256_set1_epi8(-7)), 31) == -7);
  CHECK(lane<int32_t>(_mm512_dpbusd_epi32(_mm512_set1_epi32(2147483647), _mm512_set1_epi8(1), _mm512_set1_epi8(1)), 0) == -2147483645);
  CHECK(lane<int16_t>(_mm512_maddubs_epi16(_mm512_set1_epi8(-1), _mm512_set1_epi8(127)), 0) == 32767); /* 255 * 127 * 2 */
  CHECK(lane<int32_t>(_mm512_dpwssd_epi32(kCount, _mm512_set1_epi16(-300), _mm512_set1_epi16(200)), 15) == 15 - 120000);
  CHECK(lane<float>(_mm512_fnmadd_ps(_mm512_set1_ps(2), _mm512_set1_ps(3), _mm512_set1_ps(10)), 3) == 4.0f);
  CHECK(_mm512_reduce_add_ps(_mm512_cvtepi32_ps(kCount)) == 120.0f);
}

void moves() {
  CHECK(equals<int32_t>(_mm512_unpacklo_epi32(kCount, kFrom16), 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29));
  CHECK(equals<int32_t>(_mm512_unpackhi_epi32(kCount, kFrom16), 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31));
  CHECK(equals<int32_t>(_mm512_unpackhi_epi64(kCount, kFrom16), 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31));
  CHECK(equals<int32_t>(_mm512_shuffle_i32x4(kCount, kFrom16, 0x8d), 4, 5, 6, 7, 12, 13, 14, 15, 16, 17, 18, 19, 24, 25, 26, 27));
  CHECK(equals<int32_t>(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), 0, 1, 2, 3));
  const __m512i index = _mm512_set1_epi32(32 + 17); /* the bit of 32 is ignored; 17 is the second register's 1 */
  CHECK(lane<int32_t>(_mm512_permutex2var_epi32(kCount, index, kFrom16), 9) == 17);
  CHECK(lane<int32_t>(_mm512_permutexvar_epi32(index, kFrom16), 9) == 17);
  CHECK(lane<uint8_t>(_mm512_permutexvar_epi8(_mm512_set1_epi8(8), kCount), 60) == 2);
  CHECK(lane<uint8_t>(_mm512_shuffle_epi8(kCount, _mm512_set1_epi8(8)), 60) == 14);
  CHECK(lane<int32_t>(_mm512_ternarylogic_epi32(_mm512_set1_epi32(12), _mm512_set1_epi32(10), _mm512_setzero_si512(), 0x3c), 1) == 6);
  CHECK(equals<int16_t>(_mm512_srai_epi16(_mm512_set1_epi16(-9), 1), -5, -5));
  CHECK(equals<int16_t>(_mm512_srli_epi16(_mm512_set1_epi16(0x1234), 4), 0x123));
  CHECK(equals<int32_t>(_mm512_extracti32x4_epi32(kCount, 2), 8, 9, 10, 11));
  CHECK(equals<int32_t>(_mm512_inserti64x4(kCount, _mm256_set1_epi32(7), 1), 0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7));
  CHECK(std::isnan(lane<float>(_mm512_castps128_ps512(_mm_set1_ps(1)), 4))); /* undefined lanes are NaN */
}

void masks() {
  uint8_t bytes[5] = {1, 2, 3, 4, 5}; /* the sanitizer finds accesses past them */
  CHECK(equals<uint8_t>(_mm512_maskz_loadu_epi8(0x17, bytes), 1, 2, 3, 0, 5, 0, 0));
  _mm512_mask_storeu_epi8(bytes, 0x11, _mm512_set1_epi8(9));
  CHECK(bytes[0] == 9 && bytes[1] == 2 && bytes[3] == 4 && bytes[4] == 9);
  const __m512 x = _mm512_cvtepi32_ps(kCount), nan = _mm512_set1_ps(NAN);
  CHECK(_mm512_cmp_ps_mask(x, _mm512_set1_ps(3), _CMP_LT_OQ) == 0x7);
  CHECK(_mm512_cmp_ps_mask(x, _mm512_set1_ps(3), _CMP_GE_OS) == 0xfff8);
  CHECK(_mm512_cmp_ps_mask(x, nan, _CMP_LT_OQ) == 0 && _mm512_cmp_ps_mask(x, nan, _CMP_NLT_UQ) == 0xffff);
  CHECK(_mm512_cmpgt_epi32_mask(kCount, _mm512_set1_epi32(13)) == 0xc000);
  CHECK(equals<int32_t>(_mm512_mask_add_epi32(kCount, 2, kCount, kFrom16), 0, 18, 2));
  CHECK(lane<float>(_mm512_max_ps(nan, x), 3) == 3.0f && std::isnan(lane<float>(_mm512_max_ps(x, nan), 3)));
}

void conversions() {
  CHECK(lane<int32_t>(_mm512_cvtps_epi32(_mm512_set1_ps(2.5f)), 0) == 2 && lane<int32_t>(_mm512_cvtps_epi32(_mm512_set1_ps(-3.5f)), 0) == -4);
  CHECK(lane<int32_t>(_mm512_cvtps_epi32(_mm512_set1_ps(3e9f)), 0) == INT32_MIN);
  CHECK(lane<uint16_t>(_mm512_cvtps_ph(_mm512_set1_ps(1.0f), _MM_FROUND_TO_NEAREST_INT), 15) == 0x3c00);
  CHECK(lane<float>(_mm512_scalef_ps(_mm512_set1_ps(3), _mm512_set1_ps(-1.5f)), 0) == 0.75f); /* 3 * 2^-2 */
  CHECK(lane<float>(_mm512_roundscale_ps(_mm512_set1_ps(1.375f), 0x11), 0) == 1.0f);           /* down to halves */
  CHECK(lane<float>(_mm512_reduce_ps(_mm512_set1_ps(-1.25f), 0x09), 0) == 0.75f);              /* x - floor(x) */
  CHECK(lane<int8_t>(_mm512_cvtsepi32_epi8(_mm512_set1_epi32(-300)), 3) == -128 && lane<int8_t>(_mm512_cvtepi32_epi8(_mm512_set1_epi32(300)), 3) == 44);
  /* bfloat16: 1 + 2^-8 lies between 0x3f80 and 0x3f81 and goes to the even one, 1 + 3 * 2^-8 to 0x3f82. */
  CHECK(emu::to_bf16(1.00390625f) == 0x3f80 && emu::to_bf16(1.01171875f) == 0x3f82 && emu::to_bf16(1.00391f) == 0x3f81);
  CHECK(emu::to_bf16(-1e-40f) == 0x8000 && emu::to_bf16(3.4e38f) == 0x7f80 && emu::to_bf16(-INFINITY) == 0xff80);
  const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_set1_ps(2), _mm512_set1_ps(1)); /* the second is the low half */
  CHECK(lane<uint16_t>(both, 0) == 0x3f80 && lane<uint16_t>(both, 31) == 0x4000);
}

struct Config {
  uint8_t palette = 1, start_row = 0, zeros[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(Config) == 64, "as LDTILECFG reads it");

Config three_tiles() { /* (2, 3) dwords += (2, 1) * (1, 3) */
  Config config;
  config.rows[0] = 2, config.bytes[0] = 12;
  config.rows[1] = 2, config.bytes[1] = 4;
  config.rows[2] = 1, config.bytes[2] = 12;
  return config;
}

void tiles() {
  const Config config = three_tiles();
  _tile_loadconfig(&config);
  const int8_t a[2][8] = {{1, 2, 3, -4}, {-128, -128, -128, -128}}; /* eight bytes from row to row, of which four are loaded */
  const int8_t b[12] = {1, 1, 1, 1, 2, 0, 0, -1, -128, -128, -128, -128};
  int32_t c[2][4] = {{10, 20, 30, 77}, {0, 0, 0, 77}};
  _tile_loadd(0, c, 16);
  _tile_loadd(1, a, 8);
  _tile_stream_loadd(2, b, 12);
  _tile_dpbssd(0, 1, 2);
  _tile_stored(0, c, 16);
  CHECK(equals<int32_t>(c, 12, 26, 30 - 256, 77, -512, -128, 65536, 77));
  _tile_zero(0);
  _tile_dpbusd(0, 1, 2); /* -4 is 252, -128 is 128 */
  _tile_stored(0, c, 16);
  CHECK(equals<int32_t>(c, 258, 2 - 252, -128 * 258, 77, 512, 128, -65536, 77));

  const uint16_t x[2][2] = {{0x3f80, 0x4000}, {0x4040, 0x0001}}; /* 1, 2; 3, a denormal */
  const uint16_t y[6] = {0x3f80, 0x3f80, 0x4000, 0xc000, 0x0000, 0x7f00}; /* 1, 1; 2, -2; 0, 2^127 */
  float sums[6] = {0.5f, 0.5f, 0, 0, 0, 1e-40f};
  _tile_loadd(0, sums, 12);
  _tile_loadd(1, x, 4);
  _tile_loadd(2, y, 12);
  _tile_dpbf16ps(0, 1, 2);
  _tile_stored(0, sums, 12);
  CHECK(sums[0] == 3.5f && sums[1] == -1.5f && std::isinf(sums[2]) && sums[3] == 3.0f && sums[4] == 6.0f && sums[5] == 0.0f);
  _tile_release();
}

/* Whether `work` aborts the program, where a processor would fault; hides the message. */
template <typename Work>
bool stops(Work work) {
  const pid_t child = fork();
  if (child == 0) {
    if (!std::freopen("/dev/null", "w", stderr)) _exit(1);
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

void faults() {
  CHECK(stops([] { _tile_zero(0); })); /* no configuration */
  const auto with_config = [](auto change, auto work) {
    return stops([&] {
      Config config = three_tiles();
      change(config);
      _tile_loadconfig(&config);
      work();
    });
  };
  const auto as_is = [](Config &) {};
  const auto product = [] { _tile_dpbssd(0, 1, 2); };
  CHECK(!with_config(as_is, product));
  CHECK(with_config(as_is, [] { _tile_zero(3); })); /* a tile without rows */
  CHECK(with_config(as_is, [] { _tile_dpbssd(0, 2, 1); }));
  CHECK(with_config(as_is, [] { _tile_dpbssd(0, 1, 1); }));
  CHECK(with_config(as_is, [] { _tile_release(), _tile_zero(0); }));
  CHECK(with_config([](Config &c) { c.rows[2] = 2; }, product));
  CHECK(with_config([](Config &c) { c.rows[0] = 17; }, [] {}));
  CHECK(with_config([](Config &c) { c.bytes[0] = 0; }, [] {}));
  CHECK(with_config([](Config &c) { c.palette = 2; }, [] {}));
  alignas(64) uint8_t memory[128] = {};
  CHECK(stops([&] { _mm512_store_si512(memory + 4, kCount); }));
}

}  // namespace

int main() {
  products();
  moves();
  masks();
  conversions();
  tiles();
  faults();
  return finish("emulated_test");
}
