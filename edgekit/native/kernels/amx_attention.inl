/* Attention with AMX tiles; part of amx.cpp, after bf16_attention.inl:
 *
 *   scores (16 rows, 64 keys)   = queries (left: 16 rows, 32 dimensions)  * keys (right: 16 pairs of dimensions, 16 keys)
 *   sums (16 rows, head_dim)   += weights (left: 16 rows, 32 keys)        * values (right: 16 pairs of keys, 16 dimensions)
 *
 * Queries and weights are stored as left tiles. */
namespace {

constexpr int kTileRows = 16;

/* The scores of 16 rows. Tiles 0 to 3 are scores of 16 keys each, tile 4 queries, tiles 5 and 6 keys. */
inline void score_tiles(const Bf16Scratch &s, const uint8_t *q, int steps) {
  zero_sums();
  for (int step = 0; step < steps; ++step) {
    const uint8_t *keys = s.keys + step * (kKeys / 16) * kTileBytes;
    _tile_loadd(4, q + step * kTileBytes, 64);
    _tile_loadd(5, keys, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, keys + kTileBytes, 64);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(5, keys + 2 * kTileBytes, 64);
    _tile_dpbf16ps(2, 4, 5);
    _tile_loadd(6, keys + 3 * kTileBytes, 64);
    _tile_dpbf16ps(3, 4, 6);
  }
  _tile_stored(0, s.scores, kKeys * 4);
  _tile_stored(1, s.scores + 16, kKeys * 4);
  _tile_stored(2, s.scores + 32, kKeys * 4);
  _tile_stored(3, s.scores + 48, kKeys * 4);
}

/* Convert the scores of row i of the tile (row `row` of the job) to softmax weights; the row sees the first `seen` keys. */
inline void soften_tile_row(const Bf16Scratch &s, int i, int64_t row, int head_dim, int seen, bool first) {
  uint8_t *weights = s.weights + i * 64;
  if (seen == 0) {
    _mm512_store_si512(weights, _mm512_setzero_si512());
    _mm512_store_si512(weights + kTileBytes, _mm512_setzero_si512());
    return;
  }
  const __m512 base = _mm512_set1_ps(first ? 0.0f : s.largest[row]);
  __m512 x[4];
  for (int t = 0; t < 4; ++t) x[t] = _mm512_sub_ps(_mm512_load_ps(s.scores + i * kKeys + 16 * t), base);
  soften_row(s, row, head_dim, seen, first, x, weights, weights + kTileBytes);
}

/* Add weights times values to the sums of 16 rows. Tile 0 is 16 dimensions of the sums, tiles 1 and 2 are weights, tiles 3
 * and 4 values. */
inline void value_tiles(const Bf16Scratch &s, float *sum, int head_dim, int count) {
  _tile_loadd(1, s.weights, 64);
  if (count > 32) _tile_loadd(2, s.weights + kTileBytes, 64);
  const int64_t next = head_dim / 16 * kTileBytes;
  for (int d = 0; d < head_dim; d += 16) {
    const uint8_t *values = s.values + d / 16 * kTileBytes;
    _tile_loadd(0, sum + d, head_dim * 4);
    _tile_loadd(3, values, 64);
    _tile_dpbf16ps(0, 1, 3);
    if (count > 32) {
      _tile_loadd(4, values + next, 64);
      _tile_dpbf16ps(0, 2, 4);
    }
    _tile_stored(0, sum + d, head_dim * 4);
  }
}

void attend_on_tiles(const AttentionJob &job, uint8_t *scratch) {
  const int64_t rows = job.m * job.group;
  if (rows < kTileRows) return kAvx512Bf16.attend(job, scratch); /* less than a tile, as in decode */
  const Tiles tiles;
  const int head_dim = job.head_dim, padded = padded_dim(head_dim), steps = padded / kTileColumns;
  const Bf16Scratch s = split_bf16_scratch(&scratch, head_dim, rows, kTileRows);
  for (int64_t row = 0; row < (rows + kTileRows - 1) / kTileRows * kTileRows; ++row) {
    for (int d = 0; d < padded; d += kTileColumns)
      _mm512_store_si512(s.q + (row / kTileRows * padded + d) / kTileColumns * kTileBytes + row % kTileRows * 64,
                         row < rows ? load_query(job, row, d) : _mm512_setzero_si512());
    start_row(s, row, head_dim);
  }
  const int64_t furthest = job.position + job.m < job.end ? job.position + job.m : job.end;
  for (int64_t at = job.begin; at < furthest; at += kKeys) {
    const int count = static_cast<int>(furthest - at < kKeys ? furthest - at : kKeys);
    load_block(job, at, count, s);
    stores_before_loads();
    for (int64_t row = first_row(job, at) / kTileRows * kTileRows; row < rows; row += kTileRows) {
      score_tiles(s, s.q + row / kTileRows * steps * kTileBytes, steps);
      for (int i = 0; i < kTileRows; ++i)
        soften_tile_row(s, i, row + i, head_dim, row + i < rows ? keys_seen(job, row + i, at, count) : 0, at == job.begin);
      stores_before_loads();
      value_tiles(s, s.sum + row * head_dim, head_dim, count);
    }
  }
  write_rows(job, s, rows);
}

size_t attend_on_tiles_scratch(int head_dim, int64_t rows) {
  const size_t own = bf16_scratch_bytes(head_dim, rows, kTileRows), few = kAvx512Bf16.attend_scratch(head_dim, rows);
  return own > few ? own : few;
}

}  // namespace
