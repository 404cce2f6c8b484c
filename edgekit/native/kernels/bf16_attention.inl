/* Attention by products of bfloat16; part of amx.cpp and avx512bf16.cpp, included after avx512.inl. The steps are those of
 * attention.inl. Queries, keys, weights and values are rounded to bfloat16; all sums are in float. Blocks of keys and values
 * are stored once for all rows of a job, as right operands:
 *
 *   keys     (padded head_dim / 32, 4, 16, 16, 2)   [dimension / 32, key / 16, dimension / 2 % 16, key % 16, dimension % 2]
 *   values   (2, head_dim / 16, 16, 16, 2)          [key / 32, dimension / 16, key / 2 % 16, dimension % 16, key % 2]
 *
 * Both are made from the cache by pairing neighbours, without a transposition. One register has pairs of dimensions of 16
 * keys, or of keys of 16 dimensions. 16 registers are a tile of AMX. */
namespace {

constexpr int kKeys = kKvBlock; /* keys at a time: a row of four registers of scores */
static_assert(kKeys == 64, "four registers of scores");
constexpr int kTileBytes = 1024;
constexpr int kTileColumns = 32;

/* 16 dwords of two bfloat16 each: `even` in the low half, `odd` in the high half. */
inline __m512i pair_up(__m512 even, __m512 odd) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
  return _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), both);
}

inline __m512i to_bf16(__m512 first, __m512 second) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
}

inline int padded_dim(int head_dim) { return (head_dim + kTileColumns - 1) / kTileColumns * kTileColumns; }

struct Bf16Scratch {
  uint8_t *keys, *values;
  uint8_t *q;             /* (rows, padded head_dim), in an order of the kernel */
  float *sum;             /* (rows, head_dim) */
  float *largest, *total; /* (rows) and (rows, 16): the lanes of the total are added at the end */
  float *scores;          /* (rows of a tile, kKeys) */
  uint8_t *weights;       /* (rows of a tile, kKeys), in an order of the kernel */
};

inline uint8_t *take_bytes(uint8_t **at, int64_t count) {
  uint8_t *start = *at;
  *at += (count + 63) / 64 * 64;
  return start;
}

/* `rows` is rounded up to whole tiles of `tile_rows`. */
inline Bf16Scratch split_bf16_scratch(uint8_t **at, int head_dim, int64_t rows, int tile_rows) {
  rows = (rows + tile_rows - 1) / tile_rows * tile_rows;
  const int64_t padded = padded_dim(head_dim);
  Bf16Scratch s;
  s.keys = take_bytes(at, 2 * kKeys * padded);
  s.values = take_bytes(at, 2 * kKeys * head_dim);
  s.q = take_bytes(at, 2 * rows * padded);
  s.sum = reinterpret_cast<float *>(take_bytes(at, 4 * rows * head_dim));
  s.largest = reinterpret_cast<float *>(take_bytes(at, 4 * rows));
  s.total = reinterpret_cast<float *>(take_bytes(at, 4 * rows * 16));
  s.scores = reinterpret_cast<float *>(take_bytes(at, 4 * tile_rows * kKeys));
  s.weights = take_bytes(at, 2 * tile_rows * kKeys);
  return s;
}

/* As much as the kernel above needs, or attend() for few rows. */
inline size_t bf16_scratch_bytes(int head_dim, int64_t rows, int tile_rows) {
  uint8_t *const start = reinterpret_cast<uint8_t *>(uintptr_t{64}); /* never dereferenced */
  uint8_t *end = start;
  split_bf16_scratch(&end, head_dim, rows, tile_rows);
  const auto own = static_cast<size_t>(end - start), lanes = attend_scratch(head_dim, rows);
  return own > lanes ? own : lanes;
}

/* Load the keys and values of positions at to at + count - 1. int8 is multiplied by its scales. Dimensions from head_dim on
 * and values from count on are zero. Keys from count on are not; their scores are masked. The cache has room for whole
 * blocks. */
template <typename T>
inline void load_block(const AttentionJob &job, int64_t at, int count, const Bf16Scratch &s) {
  const int head_dim = job.head_dim;
  const bool scaled = sizeof(T) == 1;
  const T *rows = static_cast<const T *>(job.keys.rows) + at * head_dim;
  for (int t = 0; t < (count + 15) / 16; ++t) {
    const __m512 scale = scaled ? _mm512_loadu_ps(job.keys.scales + at + 16 * t) : _mm512_setzero_ps();
    for (int p = 0; p < padded_dim(head_dim) / 2; ++p) {
      const T *from = rows + (t * head_dim + 2 * p) * kKeyLanes;
      __m512i pairs = _mm512_setzero_si512();
      if (2 * p < head_dim) {
        prefetch_next(from, head_dim);
        __m512 even = reinterpret_cast<__m512>(load(from)), odd = reinterpret_cast<__m512>(load(from + kKeyLanes));
        if (scaled) even = _mm512_mul_ps(even, scale), odd = _mm512_mul_ps(odd, scale);
        pairs = pair_up(even, odd);
      }
      _mm512_store_si512(s.keys + (p / 16 * (kKeys / 16) + t) * kTileBytes + p % 16 * 64, pairs);
    }
  }
  rows = static_cast<const T *>(job.values.rows) + at * head_dim;
  const float *scales = job.values.scales + at;
  for (int p = 0; p < (count + 31) / 32 * 16; ++p)
    for (int d = 0; d < head_dim; d += 16) {
      const T *from = rows + 2 * p * head_dim + d;
      __m512 even = _mm512_setzero_ps(), odd = even;
      prefetch_next(from, head_dim);
      prefetch_next(from + head_dim, head_dim);
      if (2 * p < count) even = reinterpret_cast<__m512>(load(from));
      if (2 * p + 1 < count) odd = reinterpret_cast<__m512>(load(from + head_dim));
      if (scaled && 2 * p < count) even = _mm512_mul_ps(even, _mm512_set1_ps(scales[2 * p]));
      if (scaled && 2 * p + 1 < count) odd = _mm512_mul_ps(odd, _mm512_set1_ps(scales[2 * p + 1]));
      _mm512_store_si512(s.values + (p / 16 * (head_dim / 16) + d / 16) * kTileBytes + p % 16 * 64, pair_up(even, odd));
    }
}

inline void load_block(const AttentionJob &job, int64_t at, int count, const Bf16Scratch &s) {
  if (job.type == KvType::kInt8)
    load_block<int8_t>(job, at, count, s);
  else
    load_block<uint16_t>(job, at, count, s);
}

/* 32 dimensions of the query of a row from d on, times log2(e) / sqrt(head_dim): the softmax weights become powers of two. */
inline __m512i load_query(const AttentionJob &job, int64_t row, int d) {
  const __m512 scale = _mm512_set1_ps(1.44269504f / std::sqrt(static_cast<float>(job.head_dim)));
  const float *q = job.q + row / job.group * job.q_stride + row % job.group * job.head_dim + d;
  const __m512 second = d + 16 < job.head_dim ? _mm512_mul_ps(_mm512_loadu_ps(q + 16), scale) : _mm512_setzero_ps();
  return to_bf16(_mm512_mul_ps(_mm512_loadu_ps(q), scale), second);
}

inline void start_row(const Bf16Scratch &s, int64_t row, int head_dim) {
  for (int d = 0; d < head_dim; d += 16) _mm512_storeu_ps(s.sum + row * head_dim + d, _mm512_setzero_ps());
  _mm512_storeu_ps(s.total + row * 16, _mm512_setzero_ps());
  s.largest[row] = kLowest;
}

/* 2^x for x from -1e30 to 127 with a relative error of 1e-4, a twentieth of the rounding to bfloat16: a polynomial of the
 * fraction of x. */
inline __m512 coarse_power_of_two(__m512 x) {
  const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); /* x - floor(x) */
  __m512 p = _mm512_fmadd_ps(r, _mm512_set1_ps(7.802455205e-2f), _mm512_set1_ps(2.260671846e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.958334912e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.999252279e-1f));
  return _mm512_scalef_ps(p, x); /* p * 2^floor(x) */
}

/* raise_largest of attention.inl. x: scores relative to the one so far. */
inline void raise_largest(const Bf16Scratch &s, int64_t row, int head_dim, bool first, __m512 most, __m512 x[4]) {
  const float peak = _mm512_reduce_max_ps(most);
  for (int t = 0; t < 4; ++t) x[t] = _mm512_sub_ps(x[t], _mm512_set1_ps(peak));
  if (first) {
    s.largest[row] = peak;
    return;
  }
  s.largest[row] += peak;
  const __m512 shrink = coarse_power_of_two(_mm512_set1_ps(-peak));
  float *total = s.total + row * 16, *sum = s.sum + row * head_dim;
  _mm512_storeu_ps(total, _mm512_mul_ps(_mm512_loadu_ps(total), shrink));
  for (int d = 0; d < head_dim; d += 16) _mm512_storeu_ps(sum + d, _mm512_mul_ps(_mm512_loadu_ps(sum + d), shrink));
}

/* Convert the scores x of a row to softmax weights, the first 32 to `low` and the others to `high`. The row sees the first
 * `seen` keys, of which there is at least one. Scores are relative to s.largest, or in the first block (`first`) to zero. */
inline void soften_row(const Bf16Scratch &s, int64_t row, int head_dim, int seen, bool first, __m512 x[4], uint8_t *low, uint8_t *high) {
  if (seen < kKeys)
    for (int t = 0; t < 4; ++t) {
      const int left = seen - 16 * t;
      const __mmask16 mask = static_cast<__mmask16>(left >= 16 ? 0xffff : left > 0 ? (1u << left) - 1 : 0);
      x[t] = _mm512_mask_blend_ps(mask, _mm512_set1_ps(kLowest), x[t]);
    }
  const __m512 most = _mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3]));
  if (first || _mm512_cmp_ps_mask(most, _mm512_set1_ps(kSlack), _CMP_GT_OQ)) raise_largest(s, row, head_dim, first, most, x);
  for (int t = 0; t < 4; ++t) x[t] = coarse_power_of_two(x[t]);
  float *total = s.total + row * 16;
  const __m512 added = _mm512_add_ps(_mm512_add_ps(x[0], x[1]), _mm512_add_ps(x[2], x[3]));
  _mm512_storeu_ps(total, _mm512_add_ps(_mm512_loadu_ps(total), added));
  _mm512_storeu_si512(low, to_bf16(x[0], x[1]));
  _mm512_storeu_si512(high, to_bf16(x[2], x[3]));
}

inline void write_rows(const AttentionJob &job, const Bf16Scratch &s, int64_t rows) {
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

}  // namespace
