/* Tests the reader of models on a minimal artifact: it is accepted, and every contradiction is reported. */
#include <sys/stat.h>
#include <unistd.h>

#include <clocale>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "check.h"
#include "onnx_bytes.h"
#include "src/error.h"
#include "src/model.h"
#include "src/onnx_file.h"

namespace {

using Metadata = std::map<Bytes, Bytes>;

const Metadata kMetadata = {
    {"format_version", "1"},   {"vocab_size", "3"},        {"hidden_size", "32"},         {"intermediate_size", "32"},
    {"num_layers", "1"},       {"num_heads", "1"},         {"num_kv_heads", "1"},         {"head_dim", "16"},
    {"context_length", "2"},   {"rms_norm_eps", "1.5e-6"}, {"tied_embeddings", "1"},      {"linear.bits", "4"},
    {"linear.block_size", "32"}, {"linear.symmetric", "1"}, {"embedding.bits", "8"},      {"embedding.block_size", "32"},
    {"embedding.symmetric", "1"}, {"lm_head.bits", "8"},    {"lm_head.block_size", "32"}, {"lm_head.symmetric", "1"},
};

/* Places tensors one after another, each at a multiple of 64 bytes. */
struct Writer {
  std::vector<Bytes> tensors;
  uint64_t end = 0;

  uint64_t add(const Bytes &name, int type, const std::vector<uint64_t> &dims, uint64_t shift = 0) {
    uint64_t length = type == 2 ? 1 : type == 10 ? 2 : 4;
    for (const uint64_t dim : dims) length *= dim;
    const uint64_t offset = end + shift;
    tensors.push_back(tensor(name, type, dims, offset, length));
    end = (offset + length + 63) / 64 * 64;
    return offset;
  }
  void matrix(const Bytes &name, uint64_t n, uint64_t k, uint64_t shift, bool zeros) {
    add(name + ".codes", 2, {n, k / 32, 16});
    if (zeros) add(name + ".zero_points", 2, {n, 1});
    add(name + ".scales", 1, {n, k / 32}, shift);
  }
};

/* shift: the offset of the scales of the linears from a multiple of 64. zeros: the linears have zero points. */
Bytes artifact(Metadata metadata = kMetadata, uint64_t shift = 0, int layers = 1, bool zeros = false, uint64_t context = 2) {
  Writer w;
  const uint64_t codes = w.add("model.embed_tokens.codes", 2, {3, 32});
  w.tensors.push_back(tensor("lm_head.codes", 2, {3, 1, 32}, codes, 96));
  w.add("model.embed_tokens.scales", 10, {3, 1});
  for (int i = 0; i < layers; ++i) {
    const Bytes at = "model.layers." + std::to_string(i) + ".";
    w.add(at + "input_norm.weight", 1, {32});
    w.add(at + "post_attention_norm.weight", 10, {32});
    w.matrix(at + "attn.qkv_proj", 48, 32, shift, zeros);
    w.add(at + "attn.qkv_proj.bias", 10, {48});
    if (metadata.count("qk_norm")) {
      w.add(at + "attn.q_norm.weight", 1, {16});
      w.add(at + "attn.k_norm.weight", 10, {16});
    }
    w.matrix(at + "attn.o_proj", 32, 32, shift, zeros); /* 16 columns, one block */
    w.matrix(at + "mlp.gate_up_proj", 64, 32, shift, zeros);
    w.matrix(at + "mlp.down_proj", 32, 32, shift, zeros);
  }
  w.add("model.final_norm.weight", 1, {32});
  w.add("rotary.cos", 1, {context, 8});
  w.add("rotary.sin", 1, {context, 8});
  return model(w.tensors, {metadata.begin(), metadata.end()});
}

constexpr uint64_t kDataBytes = 1 << 16;
const std::vector<float> kData(kDataBytes / 4, 1.0f);

Bytes opened(const Bytes &bytes) {
  try {
    const ek::Model model(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size(),
                          reinterpret_cast<const uint8_t *>(kData.data()), kDataBytes);
    CHECK(model.layers.size() == static_cast<size_t>(model.num_layers));
    CHECK(model.layers[0].input_norm[31] == 1.0f && model.layers[0].qkv.bias && !model.layers[0].o.bias);
    return "";
  } catch (const ek::Error &error) {
    return error.what();
  }
}

/* Of the norms of the residual stream, and of query and key heads. */
std::pair<float, float> epsilons(const Bytes &bytes) {
  const ek::Model model(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size(),
                        reinterpret_cast<const uint8_t *>(kData.data()), kDataBytes);
  return {model.rms_norm_eps, model.qk_norm_eps};
}

/* Every tensor counts for the fingerprint that saved sessions have: the first bytes of the large ones, each byte of norms and
 * biases, and the rows of the rotary tables that depend on their frequencies. Row 0 is the same for all of them. */
void fingerprints() {
  Metadata metadata = kMetadata;
  metadata["format_version"] = "2", metadata["qk_norm"] = "1", metadata["linear.symmetric"] = "0";
  metadata["context_length"] = "40";
  const Bytes graph = artifact(metadata, 0, 1, true, 40);
  std::vector<uint8_t> data(kDataBytes, 1);
  const auto fingerprint = [&](const Bytes &of) {
    return ek::Model(reinterpret_cast<const uint8_t *>(of.data()), of.size(), data.data(), kDataBytes).fingerprint;
  };
  const uint64_t first = fingerprint(graph);
  CHECK(fingerprint(graph) == first);
  metadata["rms_norm_eps"] = "1.6e-6";
  CHECK(fingerprint(artifact(metadata, 0, 1, true, 40)) != first);
  const ek::OnnxFile file = ek::parse_onnx(reinterpret_cast<const uint8_t *>(graph.data()), graph.size(), kDataBytes);
  CHECK(file.tensors.count("model.layers.0.mlp.down_proj.zero_points") && file.tensors.count("model.layers.0.attn.k_norm.weight"));
  for (const auto &[name, tensor] : file.tensors) {
    std::vector<uint64_t> places = {0};
    const bool small = name.find("norm.weight") != Bytes::npos || name.find(".bias") != Bytes::npos;
    if (small) places.push_back(tensor.length - 1);
    if (name.find("rotary") == 0) places = {32, 39 * 32}; /* positions 1 and 39 */
    for (const uint64_t place : places) {
      data[tensor.offset + place] ^= 1;
      if (fingerprint(graph) == first) std::printf("  byte %d of %s\n", static_cast<int>(place), name.c_str());
      CHECK(fingerprint(graph) != first);
      data[tensor.offset + place] ^= 1;
    }
  }
}

bool says(const Bytes &found, const char *words) {
  if (*words ? found.find(words) != Bytes::npos : found.empty()) return true;
  std::printf("  found: %s\n", found.c_str());
  return false;
}

Bytes with(const Bytes &key, const Bytes &value) {
  Metadata metadata = kMetadata;
  metadata[key] = value;
  return opened(artifact(metadata));
}

void metadata() {
  CHECK(says(opened(artifact()), ""));
  CHECK(says(with("num_layers", "2"), "the tensor model.layers.1.input_norm.weight is missing"));
  CHECK(says(with("num_layers", "1025"), "allowed: 1 to 1024"));
  CHECK(says(with("num_layers", Bytes("1\0" "7", 3)), "num_layers is '1'"));
  CHECK(says(with("num_layers", "99999999999999999999"), "allowed: 1 to 1024"));
  CHECK(says(with("vocab_size", "-3"), "vocab_size is '-3'"));
  CHECK(says(with("vocab_size", "4"), "has shape (3, 32)"));
  CHECK(says(with("head_dim", "17"), "num_heads 1, num_kv_heads 1 and head_dim 17 do not fit"));
  CHECK(says(with("num_kv_heads", "2"), "num_heads 1, num_kv_heads 2"));
  CHECK(says(with("context_length", "3"), "rotary.cos has shape (2, 8)"));
  CHECK(says(with("linear.bits", "5"), "not quantized to 4 or 8 bits"));
  CHECK(says(with("linear.bits", "8"), "which contradicts the metadata"));
  CHECK(says(with("linear.block_size", "48"), "block size of the linear is 48"));
  CHECK(says(with("linear.symmetric", "0"), "qkv_proj.zero_points"));
  const Bytes own = "model.layers.0.mlp.down_proj"; /* a matrix with its own format */
  CHECK(says(with(own + ".bits", "7"), "not quantized to 4 or 8 bits"));
  Metadata mixed = kMetadata;
  mixed[own + ".bits"] = "8", mixed[own + ".block_size"] = "32", mixed[own + ".symmetric"] = "1";
  CHECK(says(opened(artifact(mixed)), "model.layers.0.mlp.down_proj.codes has shape (32, 1, 16), which contradicts the metadata"));
  mixed[own + ".bits"] = "4", mixed["linear.bits"] = "8";
  CHECK(says(opened(artifact(mixed)), "model.layers.0.attn.qkv_proj.codes has shape"));
  CHECK(says(with("format_version", "3"), "format_version is 3; this edgekit supports 1 and 2"));
  CHECK(says(with("format_version", "2"), "it has no metadata entry edgekit.qk_norm"));
  Metadata normed = kMetadata;
  normed["format_version"] = "2", normed["qk_norm"] = "1";
  CHECK(says(opened(artifact(normed)), ""));
  CHECK(epsilons(artifact(normed)) == std::make_pair(1.5e-6f, 1.5e-6f));
  normed["qk_norm_eps"] = "0.25"; /* norms that read a scaled residual stream have another one */
  CHECK(epsilons(artifact(normed)) == std::make_pair(1.5e-6f, 0.25f));
  normed["qk_norm_eps"] = "-1";
  CHECK(says(opened(artifact(normed)), "qk_norm_eps is missing or is not a number"));
  normed.erase("qk_norm_eps");
  normed["qk_norm"] = "2";
  CHECK(says(opened(artifact(normed)), "edgekit.qk_norm is '2'; allowed: 0 to 1"));
  normed["qk_norm"] = "1";
  normed["num_layers"] = "2";
  normed["head_dim"] = "32"; /* q and k of one head: 96 rows of qkv would be needed */
  CHECK(says(opened(artifact(normed, 0, 2)), "which contradicts the metadata"));
  for (const char *bad : {"inf", "nan", "-1", "1e-6x", "", "1e999", " ", ".", "1e", "1e+", "+1", "1,5", "1e99999"})
    CHECK(says(with("rms_norm_eps", bad), "rms_norm_eps is missing or is not a number"));
  for (const char *good : {"0", "0.0", "1e-06", "1.5e-05", "1e-300"}) CHECK(says(with("rms_norm_eps", good), ""));
  /* A locale with a decimal comma, if it is installed. */
  if (std::setlocale(LC_NUMERIC, "de_DE.UTF-8")) CHECK(says(opened(artifact()), ""));
  std::setlocale(LC_NUMERIC, "C");
}

void places() {
  CHECK(says(opened(artifact(kMetadata, 2)), "not a multiple of 4"));
  CHECK(says(opened(artifact(kMetadata, 4)), ""));
  Metadata many = kMetadata;
  many["num_layers"] = "8";
  CHECK(says(opened(artifact(many, 0, 8)), ""));
}

void files() {
  char folder[] = "/tmp/edgekit-model-test-XXXXXX";
  CHECK(mkdtemp(folder) != nullptr);
  const auto open = [&] {
    try {
      ek::open_model(folder);
      return Bytes();
    } catch (const ek::Error &error) {
      CHECK(error.status == EK_BAD_FILE);
      return Bytes(error.what());
    }
  };
  const Bytes graph = Bytes(folder) + "/model.onnx";
  CHECK(says(open(), "cannot open"));
  CHECK(mkfifo(graph.c_str(), 0600) == 0); /* without a writer, opening it would block forever */
  CHECK(says(open(), "is empty or not a regular file"));
  unlink(graph.c_str());
  CHECK(mkdir(graph.c_str(), 0700) == 0);
  CHECK(says(open(), "is empty or not a regular file"));
  rmdir(graph.c_str());
  rmdir(folder);
}

}  // namespace

int main() {
  metadata();
  fingerprints();
  places();
  files();
  return finish("model_test");
}
