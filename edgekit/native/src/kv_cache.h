/* The keys and values of a sequence in float16 or int8.
 *
 *   keys     (layers, kv heads, context / 16, head_dim, 16)   16 positions interleaved (KvRows in kernels.h)
 *   values   (layers, kv heads, context, head_dim)
 *   scales   (layers, kv heads, keys or values, context)      int8 only
 *
 * int8 keys are stored after the Hadamard transform (hadamard.h), which is also applied to the queries. The context is
 * rounded up to whole blocks of 64 positions (kKvBlock). */
#ifndef EDGEKIT_SRC_KV_CACHE_H
#define EDGEKIT_SRC_KV_CACHE_H

#include <cstdint>
#include <cstdio>

#include "../kernels/kernels.h"
#include "buffer.h"
#include "checksum.h"
#include "model.h"

namespace ek {

class KvCache {
 public:
  /* Throws Error: EK_CONTEXT if the model supports fewer positions, EK_NO_MEMORY. */
  KvCache(const Model &model, int64_t context, KvType type);
  /* Without a model. Throws Error(EK_NO_MEMORY). */
  KvCache(int64_t layers, int64_t kv_heads, int64_t head_dim, int64_t context, KvType type);

  KvType type() const { return type_; }
  int64_t context() const { return context_; }
  /* Bytes of `context` positions, without the padding of the last block. */
  size_t bytes() const { return allocated() / static_cast<size_t>(padded_) * static_cast<size_t>(context_); }

  KvRows keys(int64_t layer, int64_t head) const;
  KvRows values(int64_t layer, int64_t head) const;

  /* Store k and v (head_dim) of a position. */
  void store(const Kernels &kernels, int64_t layer, int64_t head, int64_t position, const float *k, const float *v);

  /* Copy the first `length` positions from another cache of the same shape and type, write them to a file, or read them
   * from one, and add them to a checksum. false: the file cannot be written, or ends early. */
  void copy(const KvCache &other, int64_t length);
  bool write(std::FILE *file, int64_t length, Checksum &sum) const;
  bool read(std::FILE *file, int64_t length, Checksum &sum);
  /* How many bytes these are. */
  uint64_t written_bytes(int64_t length) const;

  /* The bytes of kKvBlock positions. */
  size_t block_bytes() const { return allocated() / static_cast<size_t>(padded_ / kKvBlock); }
  /* Copy the positions of a block (kKvBlock of them, from block * kKvBlock on) to bytes (block_bytes()), or from there. */
  void get_block(int64_t block, uint8_t *bytes) const;
  void set_block(int64_t block, const uint8_t *bytes);

 private:
  size_t item() const { return type_ == KvType::kInt8 ? 1 : 2; }
  size_t row_bytes() const { return static_cast<size_t>(padded_ * head_dim_) * item(); }
  size_t scale_bytes() const { return type_ == KvType::kInt8 ? 2 * sizeof(float) * static_cast<size_t>(padded_) : 0; }
  size_t allocated() const { return heads_ * (2 * row_bytes() + scale_bytes()); }
  size_t index(int64_t layer, int64_t head) const { return static_cast<size_t>(layer * kv_heads_ + head); }
  /* Calls work(bytes, count, lanes) for each contiguous range of memory with the positions begin, a multiple of kKvBlock, to end - 1,
   * until it returns false. lanes: 0, or in a group of keys that is not full, how many of its kKeyLanes lanes have positions. */
  template <typename Work>
  bool for_each_range(int64_t begin, int64_t end, Work work) const;

  KvType type_;
  int64_t context_, padded_, kv_heads_, head_dim_;
  size_t heads_; /* key-value heads of all layers */
  Buffer<uint8_t> keys_, values_;
  Buffer<float> scales_;
};

}  // namespace ek

#endif
