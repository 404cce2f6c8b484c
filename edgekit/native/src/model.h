/* A mapped artifact: the location of each weight, and the small tensors, which are kept as float. Shared by all sessions. */
#ifndef EDGEKIT_SRC_MODEL_H
#define EDGEKIT_SRC_MODEL_H

#include <cstdint>
#include <string>
#include <vector>

#include "../kernels/kernels.h"

namespace ek {

/* A file mapped for reading, or bytes owned by the caller. If a file is truncated while it is mapped, the process receives
 * SIGBUS: artifacts must be replaced as a whole, by renaming. */
class MappedFile {
 public:
  explicit MappedFile(const std::string &path); /* throws Error(EK_BAD_FILE) */
  MappedFile(const uint8_t *data, uint64_t size) : data_(data), size_(size) {}
  ~MappedFile();
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;
  const uint8_t *data() const { return data_; }
  uint64_t size() const { return size_; }

 private:
  const uint8_t *data_ = nullptr;
  uint64_t size_ = 0;
  bool mapped_ = false;
};

struct Layer {
  std::vector<float> input_norm, post_attention_norm; /* (hidden) */
  std::vector<float> q_norm, k_norm; /* (head_dim): norms of each query and key head; empty if the model has none */
  Matrix qkv, o, gate_up, down;
};

struct Model {
  explicit Model(const std::string &folder); /* throws Error */
  /* From the bytes of the two files. The caller keeps them alive; they start at a multiple of 4. */
  Model(const uint8_t *graph, uint64_t graph_size, const uint8_t *data, uint64_t data_size);

  int64_t vocab_size, hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim, context_length;
  float rms_norm_eps, qk_norm_eps;
  Matrix embedding, lm_head;
  std::vector<Layer> layers;
  std::vector<float> final_norm;
  const void *rotary_cos, *rotary_sin; /* (context_length, head_dim / 2) */
  bool half_rotary;
  uint64_t fingerprint; /* hash of the graph and of the start of every matrix; identifies the model of a saved session */

 private:
  struct Reader;
  void read_all();
  MappedFile graph_, data_;
  std::vector<std::vector<float>> biases_;
};

}  // namespace ek

#endif
