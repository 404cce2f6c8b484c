#include "model.h"

#include <algorithm>
#include <cfloat>
#include <cinttypes>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "checksum.h"
#include "error.h"
#include "half.h"
#include "onnx_file.h"
#include "process.h"

namespace ek {
namespace {

/* Parse a number such as 1e-06, accurate to 15 digits; -1 if the text is not a number. strtof would accept a comma as the
 * decimal point in some locales, and streams share their locale with another copy of the C++ runtime in the process. */
double decimal(const std::string &text) {
  const char *at = text.c_str(), *const end = at + text.size();
  const auto digit = [&] { return at != end && *at >= '0' && *at <= '9'; };
  double mantissa = 0.0;
  int exponent = 0, written = 0;
  for (; digit(); ++at) mantissa = mantissa * 10.0 + (*at - '0'), ++written;
  if (at != end && *at == '.')
    for (++at; digit(); ++at) mantissa = mantissa * 10.0 + (*at - '0'), --exponent;
  if (written == 0) return -1.0;
  if (at != end && (*at == 'e' || *at == 'E')) {
    ++at;
    const bool negative = at != end && *at == '-';
    if (at != end && (*at == '-' || *at == '+')) ++at;
    int value = 0;
    for (written = 0; digit() && written < 4; ++at, ++written) value = value * 10 + (*at - '0');
    if (written == 0) return -1.0;
    exponent += negative ? -value : value;
  }
  if (at != end) return -1.0;
  return exponent < 0 ? mantissa / std::pow(10.0, -exponent) : mantissa * std::pow(10.0, exponent);
}

constexpr uint64_t kStart = 256; /* bytes of each tensor that count for the fingerprint */

}  // namespace

/* Finds tensors by name and checks each against the shape that the metadata imply. */
struct Model::Reader {
  const OnnxFile file;
  const MappedFile &weights;
  const uint8_t *data; /* of weights */
  std::vector<std::vector<float>> *biases;
  Checksum *sum; /* of the fingerprint */

  void add(const Tensor &t, uint64_t begin, uint64_t end) const {
    std::vector<uint8_t> part(static_cast<size_t>(end - begin));
    weights.copy(t.offset + begin, part.data(), part.size());
    sum->add(part.data(), part.size());
  }

  int64_t number(const char *key, int64_t least, int64_t most) const {
    const auto found = file.metadata.find(std::string("edgekit.") + key);
    if (found == file.metadata.end())
      fail(EK_BAD_FILE, "cannot read model.onnx: it has no metadata entry edgekit.%s, so it is not an edgekit artifact", key);
    char *end = nullptr;
    const long long value = std::strtoll(found->second.c_str(), &end, 10);
    const bool whole = !found->second.empty() && end == found->second.c_str() + found->second.size();
    if (!whole || value < least || value > most)
      fail(EK_BAD_FILE, "cannot read model.onnx: edgekit.%s is '%.*s'; allowed: %" PRId64 " to %" PRId64, key,
           shown_bytes(found->second.c_str(), 40), found->second.c_str(), least, most);
    return value;
  }

  float real(const char *key) const {
    const auto found = file.metadata.find(std::string("edgekit.") + key);
    const double value = found == file.metadata.end() ? -1.0 : decimal(found->second);
    if (!(value >= 0.0 && value <= FLT_MAX))
      fail(EK_BAD_FILE, "cannot read model.onnx: edgekit.%s is missing or is not a number of at least 0", key);
    return static_cast<float>(value);
  }

  const Tensor &tensor(const std::string &name, std::vector<int64_t> shape, int a, int b) const {
    const auto found = file.tensors.find(name);
    if (found == file.tensors.end()) fail(EK_BAD_FILE, "cannot read model.onnx: the tensor %s is missing", name.c_str());
    const Tensor &t = found->second;
    if (t.dims != shape) {
      std::string text;
      for (const int64_t dim : t.dims) text += (text.empty() ? "" : ", ") + std::to_string(dim);
      fail(EK_BAD_FILE,
           "cannot read model.onnx: %s has shape (%s), which contradicts the metadata", name.c_str(), text.c_str());
    }
    if (t.type != a && t.type != b)
      fail(EK_BAD_FILE,
           "cannot read model.onnx: %s has element type %d, which is not allowed for this tensor", name.c_str(), t.type);
    const uint64_t item = t.type == kFloat32 ? 4 : t.type == kFloat16 ? 2 : 1;
    if (t.offset % item)
      fail(EK_BAD_FILE,
           "cannot read model.onnx: %s starts at byte %" PRIu64 " of the data, which is not a multiple of %" PRIu64,
           name.c_str(), t.offset, item);
    add(t, 0, std::min(kStart, t.length));
    return t;
  }

  std::vector<float> floats(const std::string &name, int64_t n) const {
    const Tensor &t = tensor(name, {n}, kFloat32, kFloat16);
    add(t, 0, t.length);
    std::vector<float> values(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i)
      values[static_cast<size_t>(i)] = read_float(data + t.offset, i, t.type == kFloat16);
    return values;
  }

  /* kind: "linear", "embedding" or "lm_head", whose format applies unless the metadata have one under the name of the
   * matrix. codes: the name of the codes, if it is not derived from `name` (a tied lm_head). */
  Matrix matrix(const std::string &name, const std::string &kind, int64_t n, int64_t k, std::string codes = "") const {
    const std::string at = file.metadata.count("edgekit." + name + ".bits") ? name : kind;
    Matrix w;
    w.n = n;
    w.k = k;
    w.bits = static_cast<int>(number((at + ".bits").c_str(), 0, 8));
    if (w.bits != 4 && w.bits != 8)
      fail(EK_UNSUPPORTED,
           "cannot run this artifact: the %s is not quantized to 4 or 8 bits, which the native engine requires", at.c_str());
    w.block = static_cast<int>(number((at + ".block_size").c_str(), 32, 128));
    if (w.block & (w.block - 1))
      fail(EK_BAD_FILE, "cannot read model.onnx: the block size of the %s is %d; allowed: 32, 64, 128", at.c_str(), w.block);
    const int64_t blocks = w.blocks(), blob = w.block * w.bits / 8;
    const bool table = codes.empty() && kind == "embedding";
    const Tensor &c = tensor(codes.empty() ? name + ".codes" : codes,
                             table ? std::vector<int64_t>{n, blocks * blob} : std::vector<int64_t>{n, blocks, blob}, kUint8, kUint8);
    const Tensor &s = tensor(name + ".scales", {n, blocks}, kFloat32, kFloat16);
    w.codes = data + c.offset;
    w.scales = data + s.offset;
    w.half_scales = s.type == kFloat16;
    if (!number((at + ".symmetric").c_str(), 0, 1))
      w.zero_points = data + tensor(name + ".zero_points", {n, (blocks * w.bits + 7) / 8}, kUint8, kUint8).offset;
    if (file.tensors.count(name + ".bias")) {
      biases->push_back(floats(name + ".bias", n)); /* growing the list moves the vectors, but not their data */
      w.bias = biases->back().data();
    }
    return w;
  }
};

Model::Model(std::unique_ptr<const MappedFile> graph, std::unique_ptr<const MappedFile> data)
    : graph_(std::move(graph)), data_(std::move(data)) {
  read_all();
}

Model::Model(const uint8_t *graph, uint64_t graph_size, const uint8_t *data, uint64_t data_size)
    : Model(std::make_unique<const MappedFile>(graph, graph_size), std::make_unique<const MappedFile>(data, data_size)) {}

std::shared_ptr<const Model> open_model(const std::string &folder) {
  struct Opened {
    MappedFile::Identity graph, data;
    std::weak_ptr<const Model> model;
  };
  /* Never destroyed, because threads may still open models while the process ends. */
  static std::vector<Opened> &all = *new std::vector<Opened>;
  auto graph = std::make_unique<const MappedFile>(folder + "/model.onnx", MappedFile::kCopied);
  auto data = std::make_unique<const MappedFile>(folder + "/model.onnx.data");
  const Opened wanted{graph->identity(), data->identity(), {}};
  const std::lock_guard<std::mutex> lock(opening_mutex());
  all.erase(std::remove_if(all.begin(), all.end(), [](const Opened &each) { return each.model.expired(); }), all.end());
  for (const Opened &each : all)
    if (each.graph == wanted.graph && each.data == wanted.data)
      if (std::shared_ptr<const Model> model = each.model.lock(); model && !model->is_lost()) return model;
  const auto model = std::make_shared<const Model>(std::move(graph), std::move(data));
  all.push_back({wanted.graph, wanted.data, model});
  return model;
}

void Model::read_all() {
  const ReadGuard guard;
  Checksum sum;
  const Reader read{parse_onnx(graph_->data(), graph_->size(), data_->size()), *data_, data_->data(), &biases_, &sum};
  sum.add(graph_->data(), graph_->size());
  constexpr int64_t kMost = 1 << 24, kWidest = 1 << 17; /* limits that the kernels and their scratch sizes rely on */
  const int64_t version = read.number("format_version", 0, kMost);
  if (version != 1 && version != 2)
    fail(EK_UNSUPPORTED, "cannot run this artifact: its edgekit.format_version is %" PRId64 "; this edgekit supports 1 and 2", version);
  const bool qk_norm = version == 2 && read.number("qk_norm", 0, 1); /* version 1 has no such key */
  vocab_size = read.number("vocab_size", 1, kMost);
  hidden_size = read.number("hidden_size", 1, kWidest);
  intermediate_size = read.number("intermediate_size", 1, kWidest);
  num_layers = read.number("num_layers", 1, 1024);
  num_heads = read.number("num_heads", 1, 1024);
  num_kv_heads = read.number("num_kv_heads", 1, 1024);
  head_dim = read.number("head_dim", 2, 256);
  context_length = read.number("context_length", 1, kMost);
  rms_norm_eps = read.real("rms_norm_eps");
  qk_norm_eps = read.file.metadata.count("edgekit.qk_norm_eps") ? read.real("qk_norm_eps") : rms_norm_eps;
  if (num_heads % num_kv_heads || head_dim % 16 || num_heads * head_dim > kWidest)
    fail(EK_BAD_FILE,
         "cannot read model.onnx: num_heads %" PRId64 ", num_kv_heads %" PRId64 " and head_dim %" PRId64 " do not fit together",
         num_heads, num_kv_heads, head_dim);
  embedding = read.matrix("model.embed_tokens", "embedding", vocab_size, hidden_size);
  const bool tied = read.number("tied_embeddings", 0, 1);
  lm_head = tied ? read.matrix("model.embed_tokens", "lm_head", vocab_size, hidden_size, "lm_head.codes")
                 : read.matrix("lm_head", "lm_head", vocab_size, hidden_size);
  final_norm = read.floats("model.final_norm.weight", hidden_size);
  const int64_t q_width = num_heads * head_dim, qkv_width = q_width + 2 * num_kv_heads * head_dim;
  for (int64_t i = 0; i < num_layers; ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".";
    layers.push_back({
        read.floats(at + "input_norm.weight", hidden_size),
        read.floats(at + "post_attention_norm.weight", hidden_size),
        qk_norm ? read.floats(at + "attn.q_norm.weight", head_dim) : std::vector<float>(),
        qk_norm ? read.floats(at + "attn.k_norm.weight", head_dim) : std::vector<float>(),
        read.matrix(at + "attn.qkv_proj", "linear", qkv_width, hidden_size),
        read.matrix(at + "attn.o_proj", "linear", hidden_size, q_width),
        read.matrix(at + "mlp.gate_up_proj", "linear", 2 * intermediate_size, hidden_size),
        read.matrix(at + "mlp.down_proj", "linear", hidden_size, intermediate_size),
    });
  }
  const Tensor &cos = read.tensor("rotary.cos", {context_length, head_dim / 2}, kFloat32, kFloat16);
  const Tensor &sin = read.tensor("rotary.sin", {context_length, head_dim / 2}, cos.type, cos.type);
  rotary_cos = data_->data() + cos.offset;
  rotary_sin = data_->data() + sin.offset;
  half_rotary = cos.type == kFloat16;
  for (const Tensor *t : {&cos, &sin}) { /* the frequencies show in position 1; long ones and their scaling in the last position */
    const uint64_t last = static_cast<uint64_t>(context_length) - 1, row = t->length / (last + 1);
    for (const uint64_t position : {std::min<uint64_t>(1, last), last}) read.add(*t, position * row, (position + 1) * row);
  }
  fingerprint = sum.value();
  check_file();
}

}  // namespace ek
