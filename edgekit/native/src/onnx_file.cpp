#include "onnx_file.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "error.h"

namespace ek {
namespace {

constexpr size_t kMaxTensors = 1 << 16, kMaxName = 512, kMaxDims = 4, kMaxMetadata = 1 << 12;

/* A cursor over one message of the protobuf wire format, https://protobuf.dev/programming-guides/encoding/. */
class Message {
 public:
  Message(const uint8_t *begin, size_t size) : at_(begin), end_(begin + size) {}

  /* Move to the next field; false at the end. */
  bool next() {
    if (at_ == end_) return false;
    const uint64_t key = varint();
    field = static_cast<uint32_t>(key >> 3);
    wire_ = static_cast<int>(key & 7);
    if (key >> 32 || field == 0) fail(EK_BAD_FILE, "cannot read model.onnx: field number %" PRIu64 " is not valid", key >> 3);
    switch (wire_) {
      case 0: number = varint(); break;
      case 1: skip(8); break;
      case 2: {
        const uint64_t length = varint();
        if (length > static_cast<uint64_t>(end_ - at_))
          fail(EK_BAD_FILE,
               "cannot read model.onnx: it has a field of %" PRIu64 " bytes where only %td are left", length, end_ - at_);
        data_ = at_;
        size_ = static_cast<size_t>(length);
        at_ += length;
        break;
      }
      case 5: skip(4); break;
      default: fail(EK_BAD_FILE, "cannot read model.onnx: wire type %d is not valid", wire_);
    }
    return true;
  }

  bool is_bytes() const { return wire_ == 2; }
  Message message() const { return {bytes(), size_}; }
  std::string text(size_t most) const {
    if (bytes() && size_ > most)
      fail(EK_BAD_FILE, "cannot read model.onnx: it has a text of %zu bytes; allowed: up to %zu", size_, most);
    return {reinterpret_cast<const char *>(data_), size_};
  }
  uint64_t integer() const {
    if (wire_ != 0) fail(EK_BAD_FILE, "cannot read model.onnx: field %u has wire type %d; expected a number", field, wire_);
    return number;
  }

  uint32_t field = 0;
  uint64_t number = 0;

 private:
  const uint8_t *bytes() const {
    if (wire_ != 2) fail(EK_BAD_FILE, "cannot read model.onnx: field %u has wire type %d; expected bytes", field, wire_);
    return data_;
  }
  void skip(ptrdiff_t count) {
    if (end_ - at_ < count) fail(EK_BAD_FILE, "cannot read model.onnx: it ends inside a field");
    at_ += count;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == end_) fail(EK_BAD_FILE, "cannot read model.onnx: it ends inside a number");
      const uint8_t byte = *at_++;
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (!(byte & 128)) return value;
    }
    fail(EK_BAD_FILE, "cannot read model.onnx: it has a number of more than 64 bits");
  }

  const uint8_t *at_, *end_, *data_ = nullptr;
  size_t size_ = 0;
  int wire_ = 0;
};

struct Entry {
  std::string key, value;
};

Entry read_entry(Message message) { /* StringStringEntryProto: key = 1, value = 2 */
  Entry entry;
  while (message.next()) {
    if (message.field == 1) entry.key = message.text(kMaxName);
    if (message.field == 2) entry.value = message.text(kMaxName);
  }
  return entry;
}

uint64_t decimal(const std::string &text, const std::string &name) {
  uint64_t value = 0;
  bool good = !text.empty() && text.size() <= 18;
  for (const char c : text) {
    good = good && c >= '0' && c <= '9';
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  if (!good) fail(EK_BAD_FILE, "cannot read model.onnx: the offset or length of %s is not a number", name.c_str());
  return value;
}

struct External {
  std::string location, offset = "0", length;
  bool used = false;
};

void add_dim(Tensor &tensor, uint64_t dim) {
  if (tensor.dims.size() == kMaxDims || dim > INT32_MAX)
    fail(EK_BAD_FILE, "cannot read model.onnx: the shape of a tensor is not valid; allowed: up to 4 dimensions below 2^31");
  tensor.dims.push_back(static_cast<int64_t>(dim));
}

/* TensorProto: dims = 1, data_type = 2, name = 8, external_data = 13, data_location = 14. Inline tensors are ignored. */
void read_tensor(Message message, uint64_t data_size, OnnxFile &file) {
  Tensor tensor;
  External external;
  std::string name;
  while (message.next()) switch (message.field) {
      case 1:
        if (message.is_bytes()) { /* packed */
          const std::string packed = message.text(kMaxDims * 10);
          uint64_t value = 0;
          int shift = 0;
          for (const char c : packed) {
            if (shift > 56)
              fail(EK_BAD_FILE,
                   "cannot read model.onnx: the shape of a tensor is not valid; allowed: up to 4 dimensions below 2^31");
            value |= static_cast<uint64_t>(c & 127) << shift;
            shift += 7;
            if (c & 128) continue;
            add_dim(tensor, value);
            value = 0;
            shift = 0;
          }
          if (shift > 0) fail(EK_BAD_FILE, "cannot read model.onnx: the shape of a tensor ends inside a number");
        } else {
          add_dim(tensor, message.integer());
        }
        break;
      case 2: tensor.type = static_cast<int>(std::min<uint64_t>(message.integer(), 255)); break;
      case 8: name = message.text(kMaxName); break;
      case 13: {
        const Entry entry = read_entry(message.message());
        if (entry.key == "location") external.location = entry.value;
        if (entry.key == "offset") external.offset = entry.value;
        if (entry.key == "length") external.length = entry.value;
        break;
      }
      case 14: external.used = message.integer() == 1; break;
      default: break;
    }
  if (!external.used) return;
  if (external.location != "model.onnx.data")
    fail(EK_BAD_FILE, "cannot read model.onnx: %s is in '%s', not in model.onnx.data", name.c_str(), external.location.c_str());
  tensor.offset = decimal(external.offset, name);
  tensor.length = decimal(external.length, name);
  const uint64_t item = tensor.type == kFloat32 ? 4 : tensor.type == kFloat16 ? 2 : tensor.type == kUint8 ? 1 : 0;
  if (!item)
    fail(EK_BAD_FILE,
         "cannot read model.onnx: %s has element type %d; allowed: float32 (1), uint8 (2), float16 (10)",
         name.c_str(), tensor.type);
  uint64_t count = 1;
  for (const int64_t dim : tensor.dims)
    if (__builtin_mul_overflow(count, static_cast<uint64_t>(dim), &count)) count = UINT64_MAX / 8;
  uint64_t bytes = 0;
  if (count > data_size || __builtin_mul_overflow(count, item, &bytes) || bytes != tensor.length)
    fail(EK_BAD_FILE,
         "cannot read model.onnx: %s has a length of %" PRIu64 " bytes, which contradicts its shape",
         name.c_str(), tensor.length);
  if (tensor.offset > data_size || tensor.length > data_size - tensor.offset)
    fail(EK_BAD_FILE,
         "cannot read model.onnx: %s is at bytes %" PRIu64 " to %" PRIu64 " of model.onnx.data, which has only %" PRIu64,
         name.c_str(),
         tensor.offset, tensor.offset + tensor.length, data_size);
  if (!file.tensors.emplace(name, std::move(tensor)).second)
    fail(EK_BAD_FILE, "cannot read model.onnx: it has two tensors named %s", name.c_str());
  if (file.tensors.size() > kMaxTensors) fail(EK_BAD_FILE, "cannot read model.onnx: it has more than %zu tensors", kMaxTensors);
}

/* Only a tied lm_head shares its codes. If more sharing were allowed, a small file with a thousand layers of the same bytes
 * would take a thousand times its size in memory for the tensors that are kept as float. */
void check_overlaps(const OnnxFile &file) {
  std::vector<std::pair<uint64_t, uint64_t>> places;
  for (const auto &[name, tensor] : file.tensors) places.emplace_back(tensor.offset, tensor.offset + tensor.length);
  std::sort(places.begin(), places.end());
  for (size_t i = 1; i < places.size(); ++i) {
    if (places[i] != places[i - 1] && places[i].first < places[i - 1].second)
      fail(EK_BAD_FILE, "cannot read model.onnx: two tensors overlap at byte %" PRIu64 " of model.onnx.data", places[i].first);
    if (i > 1 && places[i] == places[i - 2])
      fail(EK_BAD_FILE,
           "cannot read model.onnx: more than two tensors share byte %" PRIu64 " of model.onnx.data", places[i].first);
  }
}

}  // namespace

OnnxFile parse_onnx(const uint8_t *bytes, size_t size, uint64_t data_size) {
  OnnxFile file;
  Message model(bytes, size); /* ModelProto: graph = 7, metadata_props = 14; GraphProto: initializer = 5 */
  while (model.next()) {
    if (model.field == 14) {
      Entry entry = read_entry(model.message());
      file.metadata[std::move(entry.key)] = std::move(entry.value);
      if (file.metadata.size() > kMaxMetadata)
        fail(EK_BAD_FILE, "cannot read model.onnx: it has more than %zu metadata entries", kMaxMetadata);
    }
    if (model.field != 7) continue;
    Message graph = model.message();
    while (graph.next())
      if (graph.field == 5) read_tensor(graph.message(), data_size, file);
  }
  check_overlaps(file);
  return file;
}

}  // namespace ek
