/* avx512bf16: needs AVX-512 F, BW, DQ, VL, VNNI and BF16, AVX2, FMA and F16C (Cooper Lake, Sapphire Rapids, Zen 4 and later). */
#include "avx512.inl"
#include "bf16_attention.inl"

namespace {

/* 6 rows by 4 registers of keys or values: 24 sums, 4 operands and a broadcast, 29 of 32 registers. */
constexpr int kTileRows = 6;
/* Up to this many rows are left to attend(): converting blocks of keys and values would take longer than it saves. */
constexpr int kFewRows = kDecodeRows;

/* A pair of bfloat16 in every lane. */
inline __m512bh broadcast_pair(const uint8_t *pair) {
  int32_t two;
  std::memcpy(&two, pair, sizeof two);
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(two));
}

/* Add the products of 16 pairs of each row (`left`, whose rows are `stride` bytes apart) with kVecs tiles to the sums. */
template <int kCount>
EK_INLINE void add_products(__m512 (&sum)[kTileRows][kCount], const uint8_t *left, int64_t stride, const uint8_t *tiles) {
  for (int p = 0; p < 16; ++p) {
    __m512bh right[kCount];
#pragma GCC unroll 16
    for (int v = 0; v < kCount; ++v) right[v] = reinterpret_cast<__m512bh>(_mm512_load_si512(tiles + v * kTileBytes + p * 64));
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      const __m512bh pair = broadcast_pair(left + r * stride + 4 * p);
#pragma GCC unroll 16
      for (int v = 0; v < kCount; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], pair, right[v]);
    }
  }
}

/* The scores of kTileRows rows with the first 16 * kCount keys, relative to `base`. */
template <int kCount>
void score_rows(const Bf16Scratch &s, const uint8_t *q, int padded, const float *base) {
  __m512 sum[kTileRows][kCount];
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kCount; ++v) sum[r][v] = base ? _mm512_set1_ps(-base[r]) : _mm512_setzero_ps();
  for (int step = 0; step < padded / kTileColumns; ++step)
    add_products<kCount>(sum, q + step * 2 * kTileColumns, 2 * padded, s.keys + step * (kKeys / 16) * kTileBytes);
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kCount; ++v) _mm512_store_ps(s.scores + r * kKeys + 16 * v, sum[r][v]);
}

/* Add weights times the first `count` values to 16 * kCount dimensions of the sums. */
template <int kCount>
void value_rows(const Bf16Scratch &s, float *sums, int d, int head_dim, int count) {
  __m512 sum[kTileRows][kCount];
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kCount; ++v) sum[r][v] = _mm512_load_ps(sums + r * head_dim + d + 16 * v);
  for (int part = 0; part * 32 < count; ++part)
    add_products<kCount>(sum, s.weights + part * 64, 2 * kKeys, s.values + (part * (head_dim / 16) + d / 16) * kTileBytes);
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kCount; ++v) _mm512_store_ps(sums + r * head_dim + d + 16 * v, sum[r][v]);
}

/* Call work(Constant) with `count`, 1 to 4. */
template <typename Work>
EK_INLINE void with_count(int count, Work work) {
  if (count >= 4) work(Constant<4>{});
  else if (count == 3) work(Constant<3>{});
  else if (count == 2) work(Constant<2>{});
  else work(Constant<1>{});
}

/* kTileRows rows from `row` on with the block of `count` keys at position `at`. */
inline void attend_rows(const AttentionJob &job, const Bf16Scratch &s, int64_t rows, int64_t row, int64_t at, int count) {
  const int head_dim = job.head_dim, padded = padded_dim(head_dim);
  const bool first = at == job.begin;
  const int64_t last = row + kTileRows <= rows ? row + kTileRows - 1 : rows - 1;
  const int most = keys_seen(job, last, at, count); /* that a row of these sees */
  with_count((most + 15) / 16, [&](auto keys) {
    score_rows<decltype(keys)::value>(s, s.q + row * padded * 2, padded, first ? nullptr : s.largest + row);
  });
  for (int r = 0; r < kTileRows; ++r) {
    uint8_t *weights = s.weights + r * 2 * kKeys;
    const int seen = row + r < rows ? keys_seen(job, row + r, at, count) : 0;
    if (seen == 0) {
      std::memset(weights, 0, 2 * kKeys);
      continue;
    }
    __m512 x[4];
    for (int t = 0; t < 4; ++t) x[t] = _mm512_load_ps(s.scores + r * kKeys + 16 * t);
    soften_row(s, row + r, head_dim, seen, first, x, weights, weights + kKeys);
  }
  for (int d = 0; d < head_dim; d += 64)
    with_count((head_dim - d) / 16, [&](auto vectors) {
      value_rows<decltype(vectors)::value>(s, s.sum + row * head_dim, d, head_dim, most);
    });
}

void attend_bf16(const AttentionJob &job, uint8_t *scratch) {
  const int64_t rows = job.m * job.group;
  if (rows <= kFewRows) return job.type == KvType::kInt8 ? kAvx512Vnni.attend(job, scratch) : attend_few<uint16_t>(job, scratch);
  const int head_dim = job.head_dim, padded = padded_dim(head_dim);
  const Bf16Scratch s = split_bf16_scratch(&scratch, head_dim, rows, kTileRows);
  for (int64_t row = 0; row < (rows + kTileRows - 1) / kTileRows * kTileRows; ++row) {
    for (int d = 0; d < padded; d += kTileColumns)
      _mm512_store_si512(s.q + (row * padded + d) * 2,
                         row < rows ? load_query(job, row, d) : _mm512_setzero_si512());
    start_row(s, row, head_dim);
  }
  const int64_t furthest = job.position + job.m < job.end ? job.position + job.m : job.end;
  for (int64_t at = job.begin; at < furthest; at += kKeys) {
    const int count = static_cast<int>(furthest - at < kKeys ? furthest - at : kKeys);
    load_block(job, at, count, s);
    for (int64_t row = first_row(job, at) / kTileRows * kTileRows; row < rows; row += kTileRows)
      attend_rows(job, s, rows, row, at, count);
  }
  write_rows(job, s, rows);
}

size_t attend_bf16_scratch(int head_dim, int64_t rows) { return bf16_scratch_bytes(head_dim, rows, kTileRows); }

constexpr Kernels attention_only() {
  Kernels table = {};
  table.name = "avx512bf16";
  table.attend = attend_bf16;
  table.attend_scratch = attend_bf16_scratch;
  table.attends_in_bf16 = true;
  return table;
}

}  // namespace

namespace ek {
extern const Kernels kAvx512Bf16 = attention_only();
}  // namespace ek
