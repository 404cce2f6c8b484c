/* amx: needs AMX with bfloat16, AVX-512 F, BW, DQ, VL, VNNI and BF16, AVX2, FMA and F16C (Sapphire Rapids and later). */
#include "avx512.inl"
#include "bf16_attention.inl"

namespace {

/* Prefill with tiles of bfloat16. Weights are unpacked to (code - zero point) * scale, so sums run over all of K in float and
 * need no scale per block. Weights are the left operand, because a table lookup turns their rows into rows of a tile.
 * Activations are the right operand; their columns are paired once for all weights. Step s has 32 columns:
 *
 *   left    16 outputs, 32 columns each                         row n of the tile: w[n, 32s], ..., w[n, 32s + 31]
 *   right   16 pairs of columns, 16 rows of activations each    row p: x[0, 32s + 2p], x[0, 32s + 2p + 1], x[1, 32s + 2p], ...
 *   sum     16 outputs, 16 rows of activations, float           transposed when it is written
 *
 * A tile has 16 rows of 64 bytes (kTileBytes, kTileColumns). A pack is the sequence of its padded_k(k) / 32 right tiles.
 *
 * 2 by 2 sums take four of the eight tiles: four loads of 8 cycles each for four products of 16 cycles each. 32 outputs by
 * 512 columns of weights are unpacked at a time. These 32 KB stay in an L1 cache of 48 KB while the packs are read from L2,
 * where 512 columns of 512 rows take 512 KB. `scratch` keeps the sums from one range of columns to the next. */
constexpr int kPanelRows = 32;
constexpr int kPanelColumns = 512;
constexpr int kPanelBytes = kPanelRows * kPanelColumns * 2;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, zeros[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64, "LDTILECFG's operand");

/* Configures the tiles of this thread for as long as the object exists. */
struct Tiles {
  Tiles() {
    const TileConfig config;
    __asm__ __volatile__("" : : "r"(&config) : "memory"); /* gcc 12 assumes that the load reads only eight bytes and drops the other stores */
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
};

/* Forces earlier stores to memory before a tile is loaded: gcc 12 assumes that loading a tile reads nothing. */
inline void stores_before_loads() { __asm__ __volatile__("" : : : "memory"); }

size_t pack_bytes(const Matrix &w) { return static_cast<size_t>(padded_k(w.k) / kTileColumns * kTileBytes); }

void pack(const float *x, int64_t stride, int count, const Matrix &, int64_t begin, int64_t end, uint8_t *pack) {
  for (int64_t column = begin; column < padded_k(end); column += kTileColumns) {
    __m512i rows[kPackRows]; /* one for each row of activations, 16 pairs of columns */
    const int64_t left = end - column;
    const __mmask16 first = static_cast<__mmask16>(left >= 16 ? 0xffff : left > 0 ? (1u << left) - 1 : 0);
    const __mmask16 second = static_cast<__mmask16>(left >= 32 ? 0xffff : left > 16 ? (1u << (left - 16)) - 1 : 0);
    for (int r = 0; r < kPackRows; ++r) {
      const float *from = x + (r < count ? r : 0) * stride + (column - begin);
      rows[r] = r < count ? to_bf16(_mm512_maskz_loadu_ps(first, from), _mm512_maskz_loadu_ps(second, from + 16))
                          : _mm512_setzero_si512();
    }
    transpose(rows);
    uint8_t *tile = pack + column / kTileColumns * kTileBytes;
    for (int p = 0; p < 16; ++p) _mm512_storeu_si512(tile + 64 * p, rows[p]);
  }
}

/* The scales of the blocks in columns begin to end - 1 of a row, at most 16 (512 columns in blocks of 32): a weight is
 * code * scale + offset. */
struct BlockScales {
  alignas(64) float scale[16], offset[16];

  template <int kBits, int kBlock>
  void load(const Matrix &w, int64_t n, int64_t begin, int64_t end) {
    const int64_t first = begin / kBlock, count = (end - begin) / kBlock, at = n * w.blocks() + first;
    const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
    const __m512 scales = w.half_scales ? load_scales16<true>(w.scales, at, mask) : load_scales16<false>(w.scales, at, mask);
    _mm512_store_ps(scale, scales);
    _mm512_store_ps(offset, _mm512_fnmadd_ps(scales, zero_points16<kBits>(w, w.blocks(), n, first, count), _mm512_setzero_ps()));
  }
};

/* Unpack the columns begin to end - 1 (whole blocks) of row n: a table of the sixteen values of a block maps 4-bit codes. */
template <int kBlock>
inline void unpack_nibbles(const Matrix &w, int64_t n, int64_t begin, int64_t end, uint8_t *to) {
  const __m512 code = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const uint8_t *codes = w.codes + n * w.row_bytes() + begin / 2;
  BlockScales blocks;
  blocks.load<4, kBlock>(w, n, begin, end);
  for (int b = 0; b < (end - begin) / kBlock; ++b) {
    const __m512 values = _mm512_fmadd_ps(code, _mm512_set1_ps(blocks.scale[b]), _mm512_set1_ps(blocks.offset[b]));
    const __m512i table = _mm512_broadcast_i64x4(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
    for (int k = 0; k < kBlock; k += kTileColumns, to += kTileBytes, codes += kTileColumns / 2) {
      const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(codes)));
      /* The low nibble of a byte selects the low word, the high nibble the high word. The lookup reads five bits; the fifth
       * does not matter, because the register holds the table twice. */
      const __m512i indices = _mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12));
      _mm512_storeu_si512(to, _mm512_permutexvar_epi16(indices, table));
    }
  }
}

template <int kBlock>
inline void unpack_bytes(const Matrix &w, int64_t n, int64_t begin, int64_t end, uint8_t *to) {
  const uint8_t *codes = w.codes + n * w.row_bytes() + begin;
  BlockScales blocks;
  blocks.load<8, kBlock>(w, n, begin, end);
  for (int b = 0; b < (end - begin) / kBlock; ++b) {
    const __m512 scale = _mm512_set1_ps(blocks.scale[b]), offset = _mm512_set1_ps(blocks.offset[b]);
    const auto values = [&](const uint8_t *from) {
      const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
      return _mm512_fmadd_ps(_mm512_cvtepi32_ps(wide), scale, offset);
    };
    for (int k = 0; k < kBlock; k += kTileColumns, to += kTileBytes, codes += kTileColumns)
      _mm512_storeu_si512(to, to_bf16(values(codes), values(codes + 16)));
  }
}

/* Unpack the columns begin to end - 1 of 32 outputs from n on: the tiles of the first 16 outputs, then those of the other
 * 16. Outputs from `last` on are copies of output last - 1. Columns past k are multiplied by zeros in the packs. */
template <int kBlock>
inline void unpack_rows(const Matrix &w, int64_t n, int64_t last, int64_t begin, int64_t end, uint8_t *panel) {
  for (int i = 0; i < kPanelRows; ++i) {
    const int64_t row = n + i < last ? n + i : last - 1;
    uint8_t *to = panel + i / 16 * (kPanelBytes / 2) + i % 16 * 64;
    if (w.bits == 4)
      unpack_nibbles<kBlock>(w, row, begin, end, to);
    else
      unpack_bytes<kBlock>(w, row, begin, end, to);
  }
}

inline void unpack_panel(const Matrix &w, int64_t n, int64_t last, int64_t begin, int64_t end, uint8_t *panel) {
  if (w.block == 32) return unpack_rows<32>(w, n, last, begin, end, panel);
  if (w.block == 64) return unpack_rows<64>(w, n, last, begin, end, panel);
  return unpack_rows<128>(w, n, last, begin, end, panel);
}

/* Tiles 0 to 3 are the sums for two rows of weight tiles and two packs, tiles 4 and 5 weights, tiles 6 and 7 activations. */
inline void multiply_tiles(const uint8_t *panel, const uint8_t *const packs[2], int64_t steps) {
  for (int64_t s = 0; s < steps; ++s) {
    _tile_loadd(4, panel + s * kTileBytes, 64);
    _tile_loadd(6, packs[0] + s * kTileBytes, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, packs[1] + s * kTileBytes, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, panel + kPanelBytes / 2 + s * kTileBytes, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

inline void load_sums(const float *sums) {
  _tile_loadd(0, sums, 64);
  _tile_loadd(1, sums + 256, 64);
  _tile_loadd(2, sums + 512, 64);
  _tile_loadd(3, sums + 768, 64);
}

inline void store_sums(float *sums) {
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + 256, 64);
  _tile_stored(2, sums + 512, 64);
  _tile_stored(3, sums + 768, 64);
}

/* Write a tile of sums (16 outputs, 16 rows) to y: the first `outputs` outputs of the first `rows` rows. */
inline void write_tile(const float *sums, const float *bias, int64_t outputs, int64_t rows, float *y, int64_t stride, bool add) {
  __m512i tile[16];
  for (int i = 0; i < 16; ++i) tile[i] = _mm512_loadu_si512(sums + 16 * i);
  transpose(tile);
  const __mmask16 mask = static_cast<__mmask16>(outputs >= 16 ? 0xffff : (1u << outputs) - 1);
  const __m512 offset = bias ? _mm512_maskz_loadu_ps(mask, bias) : _mm512_setzero_ps();
  for (int64_t r = 0; r < rows; ++r, y += stride) {
    const __m512 before = add ? _mm512_add_ps(offset, _mm512_maskz_loadu_ps(mask, y)) : offset;
    _mm512_mask_storeu_ps(y, mask, _mm512_add_ps(reinterpret_cast<__m512>(tile[r]), before));
  }
}

inline void write_sums(const Matrix &w, const float *sums, int64_t n, int64_t last, int64_t row, int64_t m, float *y,
                       int64_t stride, bool add) {
  for (int i = 0; i < 4; ++i) { /* the order of the tiles in multiply_tiles */
    const int64_t output = n + i / 2 * 16, r = row + i % 2 * 16;
    if (output < last && r < m)
      write_tile(sums + 256 * i, w.bias ? w.bias + output : nullptr, last - output, m - r < 16 ? m - r : 16,
                 y + r * stride + output, stride, add);
  }
}

void multiply_many(const Matrix &w, const uint8_t *packs, int64_t m, int64_t first, int64_t last, float *y, int64_t stride,
                   bool add, uint8_t *scratch) {
  const Tiles tiles;
  const auto size = static_cast<int64_t>(pack_bytes(w));
  const int64_t whole = w.blocks() * w.block, pairs = (m + 2 * kPackRows - 1) / (2 * kPackRows);
  float *kept = reinterpret_cast<float *>(scratch + kPanelBytes);
  for (int64_t begin = 0; begin < whole; begin += kPanelColumns) {
    const int64_t end = whole - begin < kPanelColumns ? whole : begin + kPanelColumns;
    float *sums = kept;
    for (int64_t n = first; n < last; n += kPanelRows) {
      unpack_panel(w, n, last, begin, end, scratch);
      for (int64_t pair = 0; pair < pairs; ++pair, sums += 1024) {
        const uint8_t *at = packs + 2 * pair * size + begin / kTileColumns * kTileBytes;
        stores_before_loads();
        const uint8_t *const both[2] = {at, 2 * pair + 1 < (m + kPackRows - 1) / kPackRows ? at + size : at};
        if (begin == 0) {
          zero_sums();
        } else {
          load_sums(sums);
        }
        multiply_tiles(scratch, both, (end - begin) / kTileColumns);
        store_sums(sums);
        if (end == whole) write_sums(w, sums, n, last, 2 * pair * kPackRows, m, y, stride, add);
      }
    }
  }
}

size_t multiply_many_scratch(const Matrix &, int64_t m) {
  return static_cast<size_t>(kPanelBytes + (m + 2 * kPackRows - 1) / (2 * kPackRows) * (kMostOutputs / kPanelRows) * 4096);
}

void multiply_one(const Matrix &w, const QuantizedRow &row, int64_t first, int64_t last, float *y, bool add) {
  kAvx512Vnni.multiply_one(w, row, first, last, y, add);
}

void multiply_few(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                  bool add) {
  kAvx512Vnni.multiply_few(w, rows, m, first, last, y, stride, add);
}

void multiply_alike(const Matrix &w, const QuantizedRow *rows, int m, int64_t first, int64_t last, float *y, int64_t stride,
                    bool add) {
  kAvx512Vnni.multiply_alike(w, rows, m, first, last, y, stride, add);
}

/* Four sums, as in multiply_tiles: 16 outputs by 16 rows by 32 columns each. */
int64_t spin(int64_t iterations) {
  const Tiles tiles;
  zero_sums();
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t i = 0; i < iterations; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  return iterations * 4 * 16 * 16 * 32;
}

}  // namespace

#include "amx_attention.inl"

namespace ek {
extern const Kernels kAmx = {
    "amx",    quantize_row,  multiply_one,          multiply_few, pack_bytes,
    pack,     multiply_many, multiply_many_scratch, rms_norm,     silu_multiply,
    rotate,   store_kv,      attend_on_tiles,       attend_on_tiles_scratch, spin,
    true,     512,           multiply_alike,
};
}  // namespace ek
