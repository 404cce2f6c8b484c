/* Emulates AMX: each thread has eight tiles of 16 rows of 64 bytes. Source: Intel SDM, volume 2, LDTILECFG, TILELOADD,
 * TDPBF16PS and TDPBSSD. Where the processor raises an exception, the program aborts with a message. */
#ifndef EDGEKIT_TESTS_EMULATED_TILES_H
#define EDGEKIT_TESTS_EMULATED_TILES_H

#include "lanes.h"

namespace {
namespace emu {

struct Tile {
  int rows, bytes; /* bytes of a row; 0 for a tile that is not configured */
  uint8_t data[16][64];
};

struct Tiles {
  bool configured;
  Tile tile[8];
};
thread_local Tiles tiles; /* zero when a thread starts */

inline Tile &tile_at(int index) {
  if (!tiles.configured) stop("a tile is used before _tile_loadconfig in this thread, or after _tile_release");
  if (index < 0 || index > 7) stop("a tile's number is not in 0 to 7");
  if (tiles.tile[index].rows == 0) stop("a tile is used that the configuration gives no rows");
  return tiles.tile[index];
}

/*   0       1          2         16                  48         56         64
 *   palette start_row  zeros     16 x uint16 colsb   16 x rows             palette 1 has eight tiles: the rest is zero */
inline void load_config(const void *config) {
  uint8_t c[64];
  std::memcpy(c, config, 64);
  tiles = Tiles{};
  if (c[0] == 0) return;
  if (c[0] != 1) stop("_tile_loadconfig: palette is not 0 or 1");
  if (c[1] != 0) stop("_tile_loadconfig: start_row is not zero");
  for (int i = 2; i < 64; ++i)
    if ((i < 16 || (i >= 32 && i < 48) || i >= 56) && c[i]) stop("_tile_loadconfig: a reserved byte is not zero");
  for (int t = 0; t < 8; ++t) {
    const int rows = c[48 + t], bytes = c[16 + 2 * t] | c[17 + 2 * t] << 8;
    if (rows > 16 || bytes > 64) stop("_tile_loadconfig: more than 16 rows or 64 bytes in a row");
    if ((rows == 0) != (bytes == 0)) stop("_tile_loadconfig: a tile has rows without bytes, or bytes without rows");
    tiles.tile[t].rows = rows;
    tiles.tile[t].bytes = bytes;
  }
  tiles.configured = true;
}

inline void tile_zero(int index) {
  Tile &t = tile_at(index);
  std::memset(t.data, 0, sizeof t.data);
}

inline void tile_load(int index, const void *base, int64_t stride) {
  tile_zero(index);
  Tile &t = tile_at(index);
  for (int r = 0; r < t.rows; ++r)
    std::memcpy(t.data[r], static_cast<const uint8_t *>(base) + r * stride, static_cast<size_t>(t.bytes));
}

inline void tile_store(int index, void *base, int64_t stride) {
  const Tile &t = tile_at(index);
  for (int r = 0; r < t.rows; ++r)
    std::memcpy(static_cast<uint8_t *>(base) + r * stride, t.data[r], static_cast<size_t>(t.bytes));
}

template <typename T>
inline T tile_item(const Tile &t, int row, int index) {
  T x;
  std::memcpy(&x, t.data[row] + index * static_cast<int>(sizeof(T)), sizeof x);
  return x;
}

/* c (rows, n) += a (rows, k) * b (k, n), in dwords of four bytes or two bfloat16. */
struct Product {
  Tile &c;
  const Tile &a, &b;
  Product(int to, int left, int right) : c(tile_at(to)), a(tile_at(left)), b(tile_at(right)) {
    if (to == left || to == right || left == right) stop("a tile product of tiles that are not three different ones");
    if (a.rows != c.rows || b.bytes != c.bytes || a.bytes != b.rows * 4) stop("a tile product of shapes that do not fit");
    if (c.bytes % 4) stop("a tile product into rows that are not whole dwords");
  }
  template <typename T, typename F>
  void run(F sum) const { /* sum(c, r, n) returns the new c[r, n]; rows and bytes outside the shape are zero */
    for (int r = 0; r < c.rows; ++r)
      for (int n = 0; n < c.bytes / 4; ++n) {
        const T x = sum(tile_item<T>(c, r, n), r, n);
        std::memcpy(c.data[r] + n * 4, &x, 4);
      }
  }
};

template <typename A, typename B>
inline void tile_dot(int to, int left, int right) {
  const Product p(to, left, right);
  p.run<int32_t>([&](int32_t c, int r, int n) {
    uint32_t sum = static_cast<uint32_t>(c); /* wraps */
    for (int k = 0; k < p.b.rows; ++k)
      for (int i = 0; i < 4; ++i)
        sum += static_cast<uint32_t>(tile_item<A>(p.a, r, 4 * k + i) * tile_item<B>(p.b, k, 4 * n + i));
    return static_cast<int32_t>(sum);
  });
}

/* Even and odd products have separate sums, each in order, which are then added to the tile. */
inline void tile_dot_bf16(int to, int left, int right) {
  const Product p(to, left, right);
  p.run<float>([&](float c, int r, int n) {
    float even = 0.0f, odd = 0.0f;
    for (int k = 0; k < p.b.rows; ++k) {
      even = bf16_fma(even, tile_item<uint16_t>(p.a, r, 2 * k), tile_item<uint16_t>(p.b, k, 2 * n));
      odd = bf16_fma(odd, tile_item<uint16_t>(p.a, r, 2 * k + 1), tile_item<uint16_t>(p.b, k, 2 * n + 1));
    }
    return flush(flush(c) + flush(even + odd));
  });
}

}  // namespace emu
}  // namespace

#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbusd
#undef _tile_dpbuud
#undef _tile_loadconfig
#undef _tile_release
#define _tile_loadconfig emu::load_config
#define _tile_release() (emu::tiles = emu::Tiles{})
#define _tile_zero emu::tile_zero
#define _tile_loadd emu::tile_load
#define _tile_stream_loadd emu::tile_load
#define _tile_stored emu::tile_store
#define _tile_dpbf16ps emu::tile_dot_bf16
#define _tile_dpbssd (emu::tile_dot<int8_t, int8_t>)
#define _tile_dpbsud (emu::tile_dot<int8_t, uint8_t>)
#define _tile_dpbusd (emu::tile_dot<uint8_t, int8_t>)
#define _tile_dpbuud (emu::tile_dot<uint8_t, uint8_t>)

#endif
