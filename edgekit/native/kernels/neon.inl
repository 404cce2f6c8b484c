/* Source code shared by the NEON tables: conversions, the decode kernel, and the loop around a tile of prefill. Each table
 * includes this file, which includes common.inl and attention.inl, before its own kernels. */
#include <arm_neon.h>

#define EK_LANES 4
#define EK_ATTEND_ROWS 6
#define EK_OWN_CONVERSIONS
#define EK_ADD_LANES(v) vaddvq_f32(v)
#include <cstdint>
namespace {
inline float32x4_t half_lanes(const uint16_t *x) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x))); }
inline float32x4_t byte_lanes(const int8_t *x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}
inline void store_halves(const float *x, int64_t n, uint16_t *y) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) vst1_u16(y + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
  for (; i < n; ++i) y[i] = vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(x[i]))), 0);
}
inline int32_t round32(const float *x, float inverse, int8_t *to) {
  int32_t sum = 0;
  for (int i = 0; i < 32; i += 16) {
    int32x4_t four[4];
    for (int j = 0; j < 4; ++j) four[j] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4 * j), inverse));
    const int16x8_t low = vcombine_s16(vmovn_s32(four[0]), vmovn_s32(four[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(four[2]), vmovn_s32(four[3]));
    vst1q_s8(to + i, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    sum += vaddlvq_s16(vaddq_s16(low, high));
  }
  return sum;
}
}  // namespace
#include "common.inl"
#include "attention.inl"

namespace {

/* Convert integer sums to float with one subtraction. A sum that starts from the bits of the float 1.5 * 2^23 is, read as a
 * float, 1.5 * 2^23 + i as long as |i| < 2^22; the sum of a block is at most 128 * 128 * 127. The conversion instruction
 * SCVTF would occupy one of the two vector pipes of a Cortex-A76 for two cycles. */
constexpr float kMagic = 12582912.0f;
constexpr int32_t kMagicBits = 0x4b400000;

/* A pointer the compiler knows nothing about, so that a register is loaded again where it would be copied: processors have
 * load units to spare, and a copy occupies a vector unit. */
template <typename T>
EK_INLINE const T *reload(const T *from) {
  __asm__ __volatile__("" : "+r"(from));
  return from;
}

#define EK_FOUR(x) x, x, x, x
alignas(64) constexpr int32_t kMagicSums[64] = {EK_FOUR(EK_FOUR(EK_FOUR(kMagicBits)))};

/* Such a sum times four scales, with one multiply-add; `offsets` is scales * -kMagic. That product is exact, because
 * prefill_scale() leaves a scale 22 bits. */
EK_INLINE float32x4_t scaled_sum(int32x4_t sum, const float *scales, const float *offsets) {
  return vfmaq_f32(vld1q_f32(offsets), vreinterpretq_f32_s32(sum), vld1q_f32(scales));
}

/* A scale rounded to 22 bits: a float16 is not changed, a float32 by less than 2^-22 of it. */
EK_INLINE float prefill_scale(float scale) {
  uint32_t bits;
  std::memcpy(&bits, &scale, sizeof bits);
  bits = (bits + 2) & ~3u;
  std::memcpy(&scale, &bits, sizeof bits);
  return scale;
}

/* Rows of activations to multiply with a panel before the next panel is unpacked: as many as fit into an L2 cache of 256 KB,
 * but enough to make the cost of unpacking, about half a tile of 4 rows, negligible. */
inline int64_t rows_at_once(const Matrix &w) {
  const int64_t fit = (256 << 10) / padded_k(w.k) / kPackRows * kPackRows;
  return fit > 4 * kPackRows ? fit : 4 * kPackRows;
}

/* Prefill: unpack(n) unpacks kOutputs outputs from n on into a panel; tile(row, out) multiplies kRows rows with it, out
 * (kRows, kOutputs). Rows of a pack beyond m are zero. */
template <int kRows, int kOutputs, typename Unpack, typename Tile>
inline void many(const Matrix &w, int64_t m, int64_t first, int64_t last, float *y, int64_t stride, bool add_to,
                 Unpack unpack, Tile tile) {
  const int64_t step = rows_at_once(w);
  for (int64_t start = 0; start < m; start += step)
    for (int64_t n = first; n < last; n += kOutputs) {
      unpack(n);
      const int64_t count = last - n < kOutputs ? last - n : kOutputs;
      for (int64_t row = start; row < m && row < start + step; row += kRows) {
        float out[kRows * kOutputs];
        tile(row, out);
        for (int i = 0; i < kRows && row + i < m; ++i) {
          float *to = y + (row + i) * stride + n;
          for (int64_t j = 0; j < count; ++j)
            to[j] = out[i * kOutputs + j] + (w.bias ? w.bias[n + j] : 0.0f) + (add_to ? to[j] : 0.0f);
        }
      }
    }
}

}  // namespace
