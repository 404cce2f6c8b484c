/* Attention with AMX tiles; part of amx.cpp. The steps are those of attention.inl. Queries, keys, weights and values are
 * rounded to bfloat16; all sums are in float:
 *
 *   scores (16 rows, 64 keys)   = queries (left: 16 rows, 32 dimensions)  * keys (right: 16 pairs of dimensions, 16 keys)
 *   sums (16 rows, head_dim)   += weights (left: 16 rows, 32 keys)        * values (right: 16 pairs of keys, 16 dimensions)
 *
 * Both right operands are made from the cache by pairing neighbours, without a transposition. */
namespace {

constexpr int kKeys = kKvBlock; /* keys at a time: a row of four score tiles */
static_assert(kKeys == 64, "four tiles of scores");

inline int padded_dim(int head_dim) { return (head_dim + kTileColumns - 1) / kTileColumns * kTileColumns; }

struct TileScratch {
  uint8_t *keys;          /* (padded head_dim / 32, kKeys / 16) tiles */
  uint8_t *values;        /* (kKeys / 32, head_dim / 16) tiles */
  uint8_t *q;             /* (row tiles, padded head_dim / 32) tiles */
  float *sum;             /* (rows, head_dim) */
  float *largest, *total; /* (rows) and (rows, 16): the lanes of the total are added at the end */
  float *scores;          /* (16, kKeys) */
  uint8_t *weights;       /* (kKeys / 32) tiles */
};

inline uint8_t *take_bytes(uint8_t **at, int64_t count) {
  uint8_t *start = *at;
  *at += (count + 63) / 64 * 64;
  return start;
}

inline TileScratch split_tile_scratch(uint8_t **at, int head_dim, int64_t rows) {
  const int64_t tiles = (rows + 15) / 16, steps = padded_dim(head_dim) / kTileColumns;
  TileScratch s;
  s.keys = take_bytes(at, steps * (kKeys / 16) * kTileBytes);
  s.values = take_bytes(at, kKeys / 32 * (head_dim / 16) * kTileBytes);
  s.q = take_bytes(at, tiles * steps * kTileBytes);
  s.sum = reinterpret_cast<float *>(take_bytes(at, 4 * tiles * 16 * head_dim));
  s.largest = reinterpret_cast<float *>(take_bytes(at, 4 * tiles * 16));
  s.total = reinterpret_cast<float *>(take_bytes(at, 4 * tiles * 16 * 16));
  s.scores = reinterpret_cast<float *>(take_bytes(at, 4 * 16 * kKeys));
  s.weights = take_bytes(at, kKeys / 32 * kTileBytes);
  return s;
}

size_t attend_on_tiles_scratch(int head_dim, int64_t rows) {
  uint8_t *const start = reinterpret_cast<uint8_t *>(uintptr_t{64}); /* never dereferenced */
  uint8_t *end = start;
  split_tile_scratch(&end, head_dim, rows);
  const auto tiles = static_cast<size_t>(end - start), lanes = attend_scratch(head_dim, rows);
  return tiles > lanes ? tiles : lanes;
}

/* 16 cached numbers as float. */
inline __m512 load16(const void *rows, KvType type, int64_t at) {
  if (type == KvType::kInt8)
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(static_cast<const int8_t *>(rows) + at))));
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(static_cast<const uint16_t *>(rows) + at)));
}

/* Load the keys and values of positions at to at + count - 1. Dimensions from head_dim on and values from count on are zero.
 * Keys from count on are not; their scores are masked. The cache has room for whole blocks. */
inline void load_tiles(const AttentionJob &job, int64_t at, int count, const TileScratch &s) {
  const int head_dim = job.head_dim;
  const int key_tiles = (count + 15) / 16;
  for (int p = 0; p < padded_dim(head_dim) / 2; ++p)
    for (int t = 0; t < key_tiles; ++t) {
      const int64_t from = (at / kKeyLanes + t) * kKeyLanes * head_dim + 2 * p * kKeyLanes;
      const __m512i pairs = 2 * p < head_dim ? pair_up(load16(job.keys.rows, job.type, from), load16(job.keys.rows, job.type, from + kKeyLanes))
                                             : _mm512_setzero_si512();
      _mm512_storeu_si512(s.keys + (p / 16 * (kKeys / 16) + t) * kTileBytes + p % 16 * 64, pairs);
    }
  for (int p = 0; p < (count + 31) / 32 * 16; ++p)
    for (int d = 0; d < head_dim; d += 16) {
      const int64_t from = (at + 2 * p) * head_dim + d;
      const __m512 even = 2 * p < count ? load16(job.values.rows, job.type, from) : _mm512_setzero_ps();
      const __m512 odd = 2 * p + 1 < count ? load16(job.values.rows, job.type, from + head_dim) : _mm512_setzero_ps();
      _mm512_storeu_si512(s.values + (p / 16 * (head_dim / 16) + d / 16) * kTileBytes + p % 16 * 64, pair_up(even, odd));
    }
}

/* Load the queries, times log2(e) / sqrt(head_dim): the softmax weights become powers of two. */
inline void load_queries(const AttentionJob &job, int64_t rows, const TileScratch &s) {
  const int head_dim = job.head_dim, padded = padded_dim(head_dim);
  const __m512 scale = _mm512_set1_ps(1.44269504f / std::sqrt(static_cast<float>(head_dim)));
  for (int64_t row = 0; row < (rows + 15) / 16 * 16; ++row) {
    const float *q = job.q + row / job.group * job.q_stride + row % job.group * head_dim;
    for (int d = 0; d < padded; d += kTileColumns) {
      const __m512 first = row < rows ? _mm512_mul_ps(_mm512_loadu_ps(q + d), scale) : _mm512_setzero_ps();
      const __m512 second = row < rows && d + 16 < head_dim ? _mm512_mul_ps(_mm512_loadu_ps(q + d + 16), scale) : _mm512_setzero_ps();
      _mm512_storeu_si512(s.q + (row / 16 * padded + d) / kTileColumns * kTileBytes + row % 16 * 64, to_bf16(first, second));
    }
    for (int d = 0; d < head_dim; d += 16) _mm512_storeu_ps(s.sum + row * head_dim + d, _mm512_setzero_ps());
    _mm512_storeu_ps(s.total + row * 16, _mm512_setzero_ps());
    s.largest[row] = kLowest;
  }
}

/* 2^x for x <= 0 with a relative error of 2e-5: the Taylor series of e^(x ln 2) around the nearest integer. */
inline __m512 power_of_two(__m512 x) {
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(x, whole);
  __m512 p = _mm512_fmadd_ps(r, _mm512_set1_ps(9.6181291e-3f), _mm512_set1_ps(5.5504109e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022651e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314718e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, whole);
}

/* The scores of 16 rows. Tiles 0 to 3 are scores of 16 keys each, tile 4 queries, tiles 5 and 6 keys. */
inline void score_tiles(const TileScratch &s, const uint8_t *q, int steps) {
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
inline void soften_row(const AttentionJob &job, const TileScratch &s, int i, int64_t row, int64_t at, int seen) {
  const bool scaled = job.type == KvType::kInt8;
  const __m512 lowest = _mm512_set1_ps(kLowest);
  __m512 x[4], most = _mm512_set1_ps(s.largest[row]);
  __mmask16 mask[4];
  for (int t = 0; t < 4; ++t) {
    const int left = seen - 16 * t;
    mask[t] = static_cast<__mmask16>(left >= 16 ? 0xffff : left > 0 ? (1u << left) - 1 : 0);
    x[t] = _mm512_loadu_ps(s.scores + i * kKeys + 16 * t);
    if (scaled) x[t] = _mm512_mul_ps(x[t], _mm512_maskz_loadu_ps(mask[t], job.keys.scales + at + 16 * t));
    x[t] = _mm512_mask_blend_ps(mask[t], lowest, x[t]);
    most = _mm512_max_ps(most, x[t]);
  }
  const float peak = _mm512_reduce_max_ps(most);
  const __m512 top = _mm512_set1_ps(peak);
  __m512 added = _mm512_setzero_ps();
  for (int t = 0; t < 4; ++t) {
    x[t] = _mm512_maskz_mov_ps(mask[t], power_of_two(_mm512_sub_ps(x[t], top)));
    added = _mm512_add_ps(added, x[t]);
    if (scaled) x[t] = _mm512_mul_ps(x[t], _mm512_maskz_loadu_ps(mask[t], job.values.scales + at + 16 * t));
  }
  _mm512_storeu_si512(s.weights + i * 64, to_bf16(x[0], x[1]));
  _mm512_storeu_si512(s.weights + kTileBytes + i * 64, to_bf16(x[2], x[3]));
  float *total = s.total + row * 16;
  if (peak == s.largest[row]) { /* nothing to shrink: the usual case after the first keys */
    _mm512_storeu_ps(total, _mm512_add_ps(_mm512_loadu_ps(total), added));
    return;
  }
  const __m512 shrink = power_of_two(_mm512_sub_ps(_mm512_set1_ps(s.largest[row]), top));
  _mm512_storeu_ps(total, _mm512_fmadd_ps(_mm512_loadu_ps(total), shrink, added));
  for (int d = 0; d < job.head_dim; d += 16) {
    float *sum = s.sum + row * job.head_dim + d;
    _mm512_storeu_ps(sum, _mm512_mul_ps(_mm512_loadu_ps(sum), shrink));
  }
  s.largest[row] = peak;
}

/* Add weights times values to the sums of 16 rows. Tile 0 is 16 dimensions of the sums, tiles 1 and 2 are weights, tiles 3
 * and 4 values. */
inline void value_tiles(const TileScratch &s, float *sum, int head_dim, int count) {
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

inline void write_rows(const AttentionJob &job, const TileScratch &s, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) {
    const float total = _mm512_reduce_add_ps(_mm512_loadu_ps(s.total + row * 16));
    const __m512 share = _mm512_set1_ps(job.total ? 1.0f : 1.0f / total);
    float *y = job.y + row / job.group * job.y_stride + row % job.group * job.head_dim;
    for (int d = 0; d < job.head_dim; d += 16)
      _mm512_storeu_ps(y + d, _mm512_mul_ps(_mm512_loadu_ps(s.sum + row * job.head_dim + d), share));
    if (!job.total) continue;
    job.largest[row] = s.largest[row] * 0.693147181f; /* from the base 2 to the base e */
    job.total[row] = total;
  }
}

void attend_on_tiles(const AttentionJob &job, uint8_t *scratch) {
  const int64_t rows = job.m * job.group;
  if (rows < 16) return attend(job, scratch); /* less than a tile, as in decode */
  const Tiles tiles;
  const int steps = padded_dim(job.head_dim) / kTileColumns;
  const TileScratch s = split_tile_scratch(&scratch, job.head_dim, rows);
  load_queries(job, rows, s);
  const int64_t furthest = job.position + job.m < job.end ? job.position + job.m : job.end;
  for (int64_t at = job.begin; at < furthest; at += kKeys) {
    const int count = static_cast<int>(furthest - at < kKeys ? furthest - at : kKeys);
    load_tiles(job, at, count, s);
    stores_before_loads();
    /* Rows of positions before `at` see none of these keys. */
    for (int64_t row = (at > job.position ? (at - job.position) * job.group : 0) / 16 * 16; row < rows; row += 16) {
      score_tiles(s, s.q + row / 16 * steps * kTileBytes, steps);
      for (int i = 0; i < 16; ++i) {
        const int64_t limit = row + i < rows ? job.position + (row + i) / job.group + 1 - at : 0;
        soften_row(job, s, i, row + i, at, static_cast<int>(limit < 0 ? 0 : limit < count ? limit : count));
      }
      stores_before_loads();
      value_tiles(s, s.sum + row * job.head_dim, job.head_dim, count);
    }
  }
  write_rows(job, s, rows);
}

}  // namespace
