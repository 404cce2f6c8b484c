/* A mapped artifact: the location of each weight, and the small tensors, which are kept as float. Shared by all sessions. */
#ifndef EDGEKIT_SRC_MODEL_H
#define EDGEKIT_SRC_MODEL_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../kernels/kernels.h"
#include "mapped_file.h"

namespace ek {

struct Layer {
  std::vector<float> input_norm, post_attention_norm; /* (hidden) */
  std::vector<float> q_norm, k_norm; /* (head_dim): norms of each query and key head; empty if the model has none */
  Matrix qkv, o, gate_up, down;
};

struct Model {
  /* From the files of an artifact. Throws Error. */
  Model(std::unique_ptr<const MappedFile> graph, std::unique_ptr<const MappedFile> data);
  /* From the bytes of the two files. The caller keeps them alive; they start at a multiple of 4. */
  Model(const uint8_t *graph, uint64_t graph_size, const uint8_t *data, uint64_t data_size);

  int64_t vocab_size, hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim, context_length;
  float rms_norm_eps, qk_norm_eps;
  Matrix embedding, lm_head;
  std::vector<Layer> layers;
  std::vector<float> final_norm;
  const void *rotary_cos, *rotary_sin; /* (context_length, head_dim / 2) */
  bool half_rotary;
  void check_file() const { data_->check(); } /* throws Error(EK_BAD_FILE) if the file of the weights was cut */
  bool is_lost() const { return data_->is_lost(); } /* a part of it could not be read */

  uint64_t fingerprint; /* of the graph, the small tensors and the start of every other one; identifies the model of a saved session */

 private:
  struct Reader;
  void read_all();
  std::unique_ptr<const MappedFile> graph_, data_;
  std::vector<std::vector<float>> biases_;
};

/* The artifact in a folder: the model that this process has already opened, if its files have not been written to since.
 * Throws Error. */
std::shared_ptr<const Model> open_model(const std::string &folder);

}  // namespace ek

#endif
