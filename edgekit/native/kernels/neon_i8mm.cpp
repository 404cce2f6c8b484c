/* neon_i8mm: needs ARMv8.2 with the dot product and int8 matrix products (Cortex-A510, A710, X2, Apple M2 and later). */
#include "neon.inl"
#include "neon_few.inl"

namespace {

/* Prefill. SMMLA multiplies eight columns of two rows of activations with those of two rows of weights, giving 2 by 2 sums:
 *
 *   a register of a pack     row 0, eight columns | row 1, the same columns
 *   a register of a panel    output 0             | output 1
 *   sums                     00 01 10 11          (row, output)
 *
 * A step is eight columns of all rows of a pack or a panel. With 4-bit codes, a group of 32 columns has its even columns
 * first and then its odd ones, as the nibbles of sixteen bytes split. Scales are stored in the order of the sums.
 *
 *   pack     values   (padded k / 8, 16, 8) int8
 *            scales   (padded k / block, 8, 4)      rows 0 0 1 1, 2 2 3 3, ...
 *            sums     (padded k / block, 8, 4)      sum of value * scale over a block
 *   panel    codes    (padded k / 8, 8, 8) int8     4-bit codes minus their zero point, 8-bit codes minus 128
 *            scales   (blocks, 4, 4)                outputs 0 1 0 1, 2 3 2 3, ...
 *            offsets  (blocks, 4, 4)                for scaled_sum()
 *            zeros    (blocks, 4, 4)                8-bit codes only: scale * (zero point - 128)
 */
constexpr int kPanelRows = 8;
constexpr int kTileRows = 8; /* 4 * 4 registers of int32 sums, 4 of activations, 4 of codes; float sums are in memory */
constexpr int kPackScales = 2 * kPackRows, kPanelScales = 2 * kPanelRows;

struct Pack {
  int8_t *values;
  float *scales, *sums;
  Pack(uint8_t *pack, const Matrix &w)
      : values(reinterpret_cast<int8_t *>(pack)),
        scales(reinterpret_cast<float *>(pack + padded_k(w.k) * kPackRows)),
        sums(scales + padded_k(w.k) / w.block * kPackScales) {}
};

struct Panel {
  uint8_t *codes;
  float *scales, *offsets, *zeros;
  Panel(uint8_t *scratch, const Matrix &w)
      : codes(scratch),
        scales(reinterpret_cast<float *>(scratch + padded_k(w.k) * kPanelRows)),
        offsets(scales + w.blocks() * kPanelScales),
        zeros(offsets + w.blocks() * kPanelScales) {}
};

size_t pack_bytes(const Matrix &w) {
  return static_cast<size_t>(kPackRows * padded_k(w.k) + 8 * kPackScales * (padded_k(w.k) / w.block));
}

size_t multiply_many_scratch(const Matrix &w, int64_t) {
  return static_cast<size_t>(padded_k(w.k) * kPanelRows + 3 * w.blocks() * kPanelScales * 4);
}

void pack(const float *x, int64_t stride, int count, const Matrix &w, int64_t begin, int64_t end, uint8_t *to_bytes) {
  const Pack to(to_bytes, w);
  RoundedBlock rounded;
  for (int r = 0; r < kPackRows; ++r)
    for (int64_t start = begin; start < padded_k(end); start += w.block) {
      round_block(x + (r < count ? r : 0) * stride, r < count ? end - begin : 0, start - begin, w.block, &rounded);
      for (int64_t at = start / w.block * kPackScales + 2 * r, two = at + 2; at < two; ++at) {
        to.scales[at] = rounded.scale;
        to.sums[at] = rounded.scale * static_cast<float>(rounded.sum);
      }
      for (int i = 0; i < w.block; i += 32) {
        int8_t *step = to.values + (start + i) * kPackRows + 8 * r;
        const int8x16x2_t in_order = {vld1q_s8(rounded.values + i), vld1q_s8(rounded.values + i + 16)};
        const int8x16x2_t values = w.bits == 4 ? vuzpq_s8(in_order.val[0], in_order.val[1]) : in_order;
        vst1_s8(step, vget_low_s8(values.val[0]));
        vst1_s8(step + 8 * kPackRows, vget_high_s8(values.val[0]));
        vst1_s8(step + 16 * kPackRows, vget_low_s8(values.val[1]));
        vst1_s8(step + 24 * kPackRows, vget_high_s8(values.val[1]));
      }
    }
}

/* Store sixteen codes of two outputs as two steps. */
EK_INLINE void store_pair(uint8_t *to, uint8x16_t a, uint8x16_t b) {
  const uint64x2_t x = vreinterpretq_u64_u8(a), y = vreinterpretq_u64_u8(b);
  vst1q_u8(to, vreinterpretq_u8_u64(vzip1q_u64(x, y)));
  vst1q_u8(to + 8 * kPanelRows, vreinterpretq_u8_u64(vzip2q_u64(x, y)));
}

/* Unpack the weight rows first to first + 7; rows from `last` on are copies of row last - 1. */
template <typename F>
void unpack_panel(const Matrix &w, int64_t first, int64_t last, const Panel &panel) {
  constexpr int kBlockBytes = F::kBlock * F::kBits / 8;
#pragma GCC unroll 1
  for (int pair = 0; pair < kPanelRows; pair += 2)
    for (int64_t b = 0; b < w.blocks(); ++b) {
      const uint8_t *source[2];
      uint8x16_t less[2];
#pragma GCC unroll 1
      for (int i = 0; i < 2; ++i) {
        const int64_t n = first + pair + i < last ? first + pair + i : last - 1;
        const float scale = prefill_scale(scale_at(w, n * w.blocks() + b));
        const int zero = zero_point_at(w, n, b);
        source[i] = w.codes + n * w.row_bytes();
        less[i] = vdupq_n_u8(static_cast<uint8_t>(F::kBits == 4 ? zero : 128));
        for (int64_t at = b * kPanelScales + 2 * pair + i, end = at + 4; at < end; at += 2) {
          panel.scales[at] = scale;
          panel.offsets[at] = scale * -kMagic;
          panel.zeros[at] = scale * static_cast<float>(zero - 128);
        }
      }
      for (int64_t at = b * kBlockBytes; at < (b + 1) * kBlockBytes; at += 16) {
        const uint8x16_t x = vld1q_u8(source[0] + at), y = vld1q_u8(source[1] + at), low = vdupq_n_u8(15);
        uint8_t *to = panel.codes + at * 8 / F::kBits * kPanelRows + 8 * pair;
        if constexpr (F::kBits == 4) {
          store_pair(to, vsubq_u8(vandq_u8(x, low), less[0]), vsubq_u8(vandq_u8(y, low), less[1]));
          store_pair(to + 16 * kPanelRows, vsubq_u8(vshrq_n_u8(x, 4), less[0]), vsubq_u8(vshrq_n_u8(y, 4), less[1]));
        } else {
          store_pair(to, vsubq_u8(x, less[0]), vsubq_u8(y, less[1]));
        }
      }
    }
}

/* Multiply rows row to row + 7 of a pack with a panel; out (8, 8). Vector instructions for a block of 128 columns: 256 SMMLA,
 * and for each of the 16 registers of sums a move and two multiply-adds, with the scales of the weights and of the
 * activations. total[i][j] has rows 2i and 2i + 1 by outputs 2j and 2j + 1. */
template <int kBlock, bool kZeros>
__attribute__((noinline)) void prefill(int64_t blocks, const Panel &panel, const Pack &rows, int64_t row, float *out) {
  float total[4][4][4] = {};
  const int8_t *values = rows.values + 8 * row;
  const uint8_t *codes = panel.codes;
#pragma GCC unroll 1
  for (int64_t b = 0; b < blocks; ++b) {
    int32x4_t dots[4][4];
    const int32_t *start = reload(kMagicSums);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) dots[i / 4][i % 4] = vld1q_s32(start + 4 * i);
#pragma GCC unroll 1 /* gcc would interleave the steps and run out of registers */
    for (int step = 0; step < kBlock / 8; ++step, values += 8 * kPackRows, codes += 8 * kPanelRows) {
      int8x16_t code[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) code[j] = vreinterpretq_s8_u8(vld1q_u8(codes + 16 * j));
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int8x16_t x = vld1q_s8(values + 16 * i);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) dots[i][j] = vmmlaq_s32(dots[i][j], x, code[j]);
      }
    }
    const float *weights = panel.scales + b * kPanelScales, *offsets = panel.offsets + b * kPanelScales;
    const float *zeros = panel.zeros + b * kPanelScales;
    const float *scales = rows.scales + b * kPackScales + 2 * row, *sums = rows.sums + b * kPackScales + 2 * row;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float32x4_t scale = vld1q_f32(scales + 4 * i);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const float32x4_t x = scaled_sum(dots[i][j], weights + 4 * j, reload(offsets + 4 * j));
        float32x4_t sum = vfmaq_f32(vld1q_f32(total[i][j]), x, scale);
        if (kZeros) sum = vfmsq_f32(sum, vld1q_f32(zeros + 4 * j), vld1q_f32(sums + 4 * i));
        vst1q_f32(total[i][j], sum);
      }
    }
  }
  for (int i = 0; i < kTileRows; ++i)
    for (int j = 0; j < kPanelRows; ++j) out[i * kPanelRows + j] = total[i / 2][j / 2][i % 2 * 2 + j % 2];
}

void multiply_many(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y, int64_t stride,
                   bool add_to, uint8_t *scratch) {
  const Panel panel(scratch, w);
  const auto size = static_cast<int64_t>(pack_bytes(w));
  with_format(w, [&](auto format) {
    using F = decltype(format);
    many<kTileRows, kPanelRows>(
        w, m, first, last, y, stride, add_to, [&](int64_t n) { unpack_panel<F>(w, n, last, panel); },
        [&](int64_t row, float *out) {
          const Pack rows(const_cast<uint8_t *>(packs) + row / kPackRows * size, w);
          if (F::kBits == 8 && w.zero_points) prefill<F::kBlock, true>(w.blocks(), panel, rows, row % kPackRows, out);
          else prefill<F::kBlock, false>(w.blocks(), panel, rows, row % kPackRows, out);
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
    for (int i = 0; i < 16; ++i) sums[i] = vmmlaq_s32(sums[i], codes, codes);
    __asm__ __volatile__("" : "+w"(codes));
  }
  for (int i = 0; i < 16; ++i) __asm__ __volatile__("" : : "w"(sums[i]));
  return iterations * 16 * 32;
}

}  // namespace

namespace ek {
extern const Kernels kNeonI8mm = {
    "neon_i8mm", quantize_row,  multiply_one,          multiply_few, pack_bytes,
    pack,        multiply_many, multiply_many_scratch, rms_norm,     silu_multiply,
    rotate,      store_kv,      attend,                attend_scratch, spin,
};
}  // namespace ek
