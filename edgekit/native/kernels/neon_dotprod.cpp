/* neon_dotprod: needs ARMv8.2 with the dot product (Cortex-A55, A76, Apple M1 and later). */
#include "neon.inl"
#include "neon_few.inl"

namespace {

/* Prefill: 16 rows of weights are unpacked into a panel. A step of a panel is four columns of the 16 weight rows. A register
 * of Int8Pack has four columns of four rows of activations; SDOT multiplies one of its lanes with four weight rows.
 *
 *   codes    (padded k / 4, 16, 4) int8   columns in the order of Int8Pack; 4-bit codes minus their zero point, 8-bit codes
 *                                         minus 128
 *   scales   (blocks, 16)
 *   offsets  (blocks, 16)                 for scaled_sum()
 *   zeros    (blocks, 16)                 8-bit codes only: scale * (zero point - 128)
 */
constexpr int kPanelRows = 16;
constexpr int kTileRows = 4; /* 4 * 4 registers of int32 sums, 4 of codes, 1 of activations; float sums are in memory */

struct Panel {
  uint8_t *codes;
  float *scales, *offsets, *zeros;
  Panel(uint8_t *scratch, const Matrix &w)
      : codes(scratch),
        scales(reinterpret_cast<float *>(scratch + padded_k(w.k) * kPanelRows)),
        offsets(scales + w.blocks() * kPanelRows),
        zeros(offsets + w.blocks() * kPanelRows) {}
};

size_t multiply_many_scratch(const Matrix &w, int64_t) {
  return static_cast<size_t>(padded_k(w.k) * kPanelRows + 3 * w.blocks() * kPanelRows * 4);
}

/* Transpose 4 registers of 4 dwords. */
EK_INLINE void transpose(uint32x4_t r[4]) {
  const uint64x2_t a = vreinterpretq_u64_u32(vtrn1q_u32(r[0], r[1])), b = vreinterpretq_u64_u32(vtrn2q_u32(r[0], r[1]));
  const uint64x2_t c = vreinterpretq_u64_u32(vtrn1q_u32(r[2], r[3])), d = vreinterpretq_u64_u32(vtrn2q_u32(r[2], r[3]));
  r[0] = vreinterpretq_u32_u64(vtrn1q_u64(a, c));
  r[1] = vreinterpretq_u32_u64(vtrn1q_u64(b, d));
  r[2] = vreinterpretq_u32_u64(vtrn2q_u64(a, c));
  r[3] = vreinterpretq_u32_u64(vtrn2q_u64(b, d));
}

/* Unpack the weight rows first to first + 15; rows from `last` on are copies of row last - 1. */
template <typename F>
void unpack_panel(const Matrix &w, int64_t first, int64_t last, const Panel &panel) {
  constexpr int kBlockBytes = F::kBlock * F::kBits / 8;
  int64_t rows[kPanelRows];
  for (int i = 0; i < kPanelRows; ++i) rows[i] = first + i < last ? first + i : last - 1;
  for (int64_t b = 0; b < w.blocks(); ++b) {
    uint32_t zeros[kPanelRows]; /* the zero point in each byte of a dword */
#pragma GCC unroll 1
    for (int i = 0; i < kPanelRows; ++i) {
      const float scale = prefill_scale(scale_at(w, rows[i] * w.blocks() + b));
      const int zero = zero_point_at(w, rows[i], b);
      panel.scales[b * kPanelRows + i] = scale;
      panel.offsets[b * kPanelRows + i] = scale * -kMagic;
      panel.zeros[b * kPanelRows + i] = scale * static_cast<float>(zero - 128);
      zeros[i] = F::kBits == 4 ? static_cast<uint32_t>(zero) * 0x01010101u : 0x80808080u;
    }
    for (int four = 0; four < kPanelRows; four += 4) {
      const uint8x16_t less = vreinterpretq_u8_u32(vld1q_u32(zeros + four));
      for (int64_t at = b * kBlockBytes; at < (b + 1) * kBlockBytes; at += 16) {
        uint32x4_t dwords[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
          dwords[i] = vreinterpretq_u32_u8(vld1q_u8(w.codes + rows[four + i] * w.row_bytes() + at));
        transpose(dwords);
        uint8_t *to = panel.codes + at * 8 / F::kBits * kPanelRows + four * 4;
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const uint8x16_t codes = vreinterpretq_u8_u32(dwords[i]);
          if constexpr (F::kBits == 4) {
            vst1q_u8(to + 128 * i, vsubq_u8(vandq_u8(codes, vdupq_n_u8(15)), less));
            vst1q_u8(to + 128 * i + 64, vsubq_u8(vshrq_n_u8(codes, 4), less));
          } else {
            vst1q_u8(to + 64 * i, vsubq_u8(codes, less));
          }
        }
      }
    }
  }
}

/* Row kRow of a tile: total[0 .. 15] += sums of products * weights * scales[kRow] - zeros * sums[kRow], in block b. */
template <int kRow, bool kZeros>
EK_INLINE void add_row(const int32x4_t dots[4], const Panel &panel, int64_t b, float32x4_t scales, float32x4_t sums,
                       float *total) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const int64_t at = b * kPanelRows + 4 * j;
    const float32x4_t x = scaled_sum(dots[j], panel.scales + at, panel.offsets + at);
    float32x4_t row = vfmaq_laneq_f32(vld1q_f32(total + 4 * j), x, scales, kRow);
    if (kZeros) row = vfmsq_laneq_f32(row, vld1q_f32(panel.zeros + at), sums, kRow);
    vst1q_f32(total + 4 * j, row);
  }
}

/* Multiply rows row to row + 3 of a pack with a panel. Vector instructions for a block of 128 columns: 512 SDOT, and for each
 * of the 16 registers of sums a move and two multiply-adds, with the scales of the weights and of the activations. */
template <int kBlock, bool kZeros>
__attribute__((noinline)) void prefill(int64_t blocks, const Panel &panel, const Int8Pack &pack, int64_t row,
                                       float (*total)[kPanelRows]) {
  std::memset(total, 0, sizeof(float) * kTileRows * kPanelRows);
  const int8_t *values = pack.values + row * 4;
  const uint8_t *codes = panel.codes;
#pragma GCC unroll 1
  for (int64_t b = 0; b < blocks; ++b) {
    int32x4_t dots[kTileRows][4];
    const int32_t *start = reload(kMagicSums);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) dots[i / 4][i % 4] = vld1q_s32(start + 4 * i);
#pragma GCC unroll 1 /* gcc would interleave the steps and run out of registers */
    for (int step = 0; step < kBlock / 4; ++step, values += 4 * kPackRows, codes += 4 * kPanelRows) {
      const int8x16_t four = vld1q_s8(values);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const int8x16_t code = vreinterpretq_s8_u8(vld1q_u8(codes + 16 * j));
        dots[0][j] = vdotq_laneq_s32(dots[0][j], code, four, 0);
        dots[1][j] = vdotq_laneq_s32(dots[1][j], code, four, 1);
        dots[2][j] = vdotq_laneq_s32(dots[2][j], code, four, 2);
        dots[3][j] = vdotq_laneq_s32(dots[3][j], code, four, 3);
      }
    }
    const float32x4_t scales = vld1q_f32(pack.scales + b * kPackRows + row);
    const float32x4_t sums = kZeros ? vld1q_f32(pack.sums + b * kPackRows + row) : scales;
    add_row<0, kZeros>(dots[0], panel, b, scales, sums, total[0]);
    add_row<1, kZeros>(dots[1], panel, b, scales, sums, total[1]);
    add_row<2, kZeros>(dots[2], panel, b, scales, sums, total[2]);
    add_row<3, kZeros>(dots[3], panel, b, scales, sums, total[3]);
  }
}

void multiply_many(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y, int64_t stride,
                   bool add_to, uint8_t *scratch) {
  const Panel panel(scratch, w);
  const auto pack_size = static_cast<int64_t>(int8_pack_bytes(w));
  with_format(w, [&](auto format) {
    using F = decltype(format);
    many<kTileRows, kPanelRows>(
        w, m, first, last, y, stride, add_to, [&](int64_t n) { unpack_panel<F>(w, n, last, panel); },
        [&](int64_t row, float *out) {
          const Int8Pack rows(packs + row / kPackRows * pack_size, w);
          const auto total = reinterpret_cast<float(*)[kPanelRows]>(out);
          if (F::kBits == 8 && w.zero_points) prefill<F::kBlock, true>(w.blocks(), panel, rows, row % kPackRows, total);
          else prefill<F::kBlock, false>(w.blocks(), panel, rows, row % kPackRows, total);
        });
  });
}

/* Sixteen independent chains, to hide the latency of the instruction. */
int64_t spin(int64_t iterations) {
  int32x4_t sums[16];
  int8x16_t codes = vdupq_n_s8(3);
  for (int i = 0; i < 16; ++i) sums[i] = vdupq_n_s32(0);
  for (int64_t n = 0; n < iterations; ++n) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) sums[i] = vdotq_s32(sums[i], codes, codes);
    __asm__ __volatile__("" : "+w"(codes));
  }
  for (int i = 0; i < 16; ++i) __asm__ __volatile__("" : : "w"(sums[i]));
  return iterations * 16 * 16;
}

}  // namespace

namespace ek {
extern const Kernels kNeonDotprod = {
    "neon_dotprod", quantize_row,  multiply_one,          multiply_few, int8_pack_bytes,
    int8_pack,      multiply_many, multiply_many_scratch, rms_norm,     silu_multiply,
    rotate,         store_kv,      attend,                attend_scratch, spin,
};
}  // namespace ek
