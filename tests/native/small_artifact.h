/* A small artifact with random weights, in memory. */
#ifndef EDGEKIT_TESTS_SMALL_ARTIFACT_H
#define EDGEKIT_TESTS_SMALL_ARTIFACT_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "onnx_bytes.h"
#include "src/model.h"

namespace {

using namespace ek;

/* Widths that are not multiples of a chunk of 128 columns, heads of half a tile, and more query heads than key-value heads. */
constexpr int64_t kVocab = 83, kHidden = 96, kIntermediate = 200, kHeads = 6, kKvHeads = 2, kHeadDim = 16, kContext = 800;

/* The bytes of a model with random weights. qk_norm: with norms of the query and key heads, as Qwen3. Models with other numbers of
 * layers share the first of them. */
struct SmallArtifact {
  std::vector<Bytes> tensors;
  std::vector<uint8_t> data;
  Random random{11};
  Bytes graph;

  explicit SmallArtifact(bool qk_norm = false, int layers = 2) {
    const uint64_t codes = matrix("model.embed_tokens", kVocab, kHidden, true);
    (void)codes;
    for (int i = 0; i < layers; ++i) {
      const Bytes at = "model.layers." + std::to_string(i) + ".";
      floats(at + "input_norm.weight", {kHidden}, 1.0f, 0.2f);
      matrix(at + "attn.qkv_proj", (kHeads + 2 * kKvHeads) * kHeadDim, kHidden, false);
      floats(at + "attn.qkv_proj.bias", {(kHeads + 2 * kKvHeads) * kHeadDim}, 0.0f, 0.5f);
      matrix(at + "attn.o_proj", kHidden, kHeads * kHeadDim, false);
      if (qk_norm) {
        floats(at + "attn.q_norm.weight", {kHeadDim}, 1.5f, 0.5f);
        floats(at + "attn.k_norm.weight", {kHeadDim}, 1.0f, 0.5f);
      }
      floats(at + "post_attention_norm.weight", {kHidden}, 1.0f, 0.2f);
      matrix(at + "mlp.gate_up_proj", 2 * kIntermediate, kHidden, false);
      matrix(at + "mlp.down_proj", kHidden, kIntermediate, false);
    }
    floats("model.final_norm.weight", {kHidden}, 1.0f, 0.2f);
    matrix("lm_head", kVocab, kHidden, false);
    rotary();
    graph = model(tensors, {{"format_version", qk_norm ? "2" : "1"}, {"qk_norm", qk_norm ? "1" : "0"}, {"vocab_size", std::to_string(kVocab)},
        {"hidden_size", std::to_string(kHidden)}, {"intermediate_size", std::to_string(kIntermediate)}, {"num_layers", std::to_string(layers)},
        {"num_heads", std::to_string(kHeads)}, {"num_kv_heads", std::to_string(kKvHeads)},
        {"head_dim", std::to_string(kHeadDim)}, {"context_length", std::to_string(kContext)}, {"rms_norm_eps", "1e-6"},
        {"tied_embeddings", "0"}, {"linear.bits", "4"}, {"linear.block_size", "32"}, {"linear.symmetric", "1"},
        {"embedding.bits", "4"}, {"embedding.block_size", "32"}, {"embedding.symmetric", "1"}, {"lm_head.bits", "4"},
        {"lm_head.block_size", "32"}, {"lm_head.symmetric", "1"}});
  }

  uint8_t *place(const Bytes &name, int type, const std::vector<uint64_t> &dims) {
    uint64_t length = type == 2 ? 1 : 4;
    for (const uint64_t dim : dims) length *= dim;
    const uint64_t offset = data.size();
    tensors.push_back(tensor(name, type, dims, offset, length));
    data.resize(static_cast<size_t>((offset + length + 63) / 64 * 64));
    return &data[static_cast<size_t>(offset)];
  }
  void floats(const Bytes &name, const std::vector<uint64_t> &dims, float middle, float spread) {
    uint64_t count = 1;
    for (const uint64_t dim : dims) count *= dim;
    uint8_t *to = place(name, 1, dims);
    for (uint64_t i = 0; i < count; ++i, to += 4) {
      const float value = middle + spread * random.real();
      std::memcpy(to, &value, 4);
    }
  }
  uint64_t matrix(const Bytes &name, uint64_t n, uint64_t k, bool table) {
    const uint64_t blocks = (k + 31) / 32, start = data.size();
    uint8_t *to = table ? place(name + ".codes", 2, {n, blocks * 16}) : place(name + ".codes", 2, {n, blocks, 16});
    for (uint64_t i = 0; i < n * blocks * 16; ++i) to[i] = static_cast<uint8_t>(random.next());
    floats(name + ".scales", {n, blocks}, 0.03f, 0.01f);
    return start;
  }
  void rotary() {
    for (const char *name : {"rotary.cos", "rotary.sin"}) {
      uint8_t *to = place(name, 1, {kContext, kHeadDim / 2});
      for (int64_t p = 0; p < kContext; ++p)
        for (int64_t i = 0; i < kHeadDim / 2; ++i, to += 4) {
          const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(i) / kHeadDim);
          const auto value = static_cast<float>(name[7] == 'c' ? std::cos(angle) : std::sin(angle));
          std::memcpy(to, &value, 4);
        }
    }
  }
  std::shared_ptr<const Model> open() const {
    return std::make_shared<const Model>(reinterpret_cast<const uint8_t *>(graph.data()), graph.size(), data.data(), data.size());
  }
};

}  // namespace

#endif
