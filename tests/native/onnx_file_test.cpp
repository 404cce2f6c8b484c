/* The reader of model.onnx: a good file is read, and no bad one does worse than an error. */
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "src/error.h"
#include "src/onnx_file.h"

namespace {

using Bytes = std::string;

Bytes varint(uint64_t value) {
  Bytes bytes;
  for (; value > 127; value >>= 7) bytes += static_cast<char>(value & 127 | 128);
  return bytes + static_cast<char>(value);
}
Bytes number(uint32_t field, uint64_t value) { return varint(field << 3) + varint(value); }
Bytes text(uint32_t field, const Bytes &value) { return varint(field << 3 | 2) + varint(value.size()) + value; }
Bytes entry(const Bytes &key, const Bytes &value) { return text(1, key) + text(2, value); }

Bytes tensor(const Bytes &name, int type, std::vector<uint64_t> dims, uint64_t offset, uint64_t length) {
  Bytes bytes;
  for (uint64_t dim : dims) bytes += number(1, dim);
  bytes += number(2, static_cast<uint64_t>(type)) + text(8, name);
  bytes += text(13, entry("location", "model.onnx.data")) + text(13, entry("offset", std::to_string(offset)));
  return bytes + text(13, entry("length", std::to_string(length))) + number(14, 1);
}
Bytes model(std::vector<Bytes> tensors) {
  Bytes graph;
  for (const Bytes &t : tensors) graph += text(5, t);
  return number(1, 10) + text(7, graph) + text(14, entry("edgekit.vocab_size", "99"));
}

/* What parse_onnx says: empty when it accepts. */
Bytes parse(const Bytes &bytes, uint64_t data_size = 1000) {
  try {
    ek::parse_onnx(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size(), data_size);
    return "";
  } catch (const ek::Error &error) {
    CHECK(error.status == EK_BAD_FILE);
    return error.what();
  }
}
bool says(const Bytes &found, const char *words) {
  if (found.find(words) != Bytes::npos) return true;
  std::printf("  found: %s\n", found.c_str());
  return false;
}

void good() {
  const Bytes bytes = model({tensor("a", 1, {2, 3}, 64, 24), tensor("b", 2, {24}, 64, 24), tensor("c", 10, {5}, 128, 10)});
  const ek::OnnxFile file = ek::parse_onnx(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size(), 1000);
  CHECK(file.metadata.at("edgekit.vocab_size") == "99");
  CHECK(file.tensors.size() == 3);
  CHECK((file.tensors.at("a").dims == std::vector<int64_t>{2, 3}));
  CHECK(file.tensors.at("c").offset == 128 && file.tensors.at("c").length == 10);
}

void bad() {
  CHECK(says(parse(model({tensor("a", 1, {300}, 0, 1200)})), "bytes 0 to 1200 of model.onnx.data, which has 1000"));
  CHECK(says(parse(model({tensor("a", 1, {100}, 700, 400)})), "model.onnx.data, which has 1000"));
  CHECK(says(parse(model({tensor("a", 1, {10}, 0, 41)})), "shape contradicts"));
  CHECK(says(parse(model({tensor("a", 7, {10}, 0, 80)})), "element type 7"));
  CHECK(says(parse(model({tensor("a", 1, {10}, 0, 40), tensor("a", 1, {10}, 64, 40)})), "stands twice"));
  CHECK(says(parse(model({tensor("a", 1, {10}, 0, 40), tensor("b", 1, {10}, 36, 40)})), "overlap at byte 36"));
  CHECK(says(parse(model({tensor("a", 1, {1, 1, 1, 1, 10}, 0, 40)})), "shape is not allowed"));
  CHECK(says(parse(model({tensor("a", 1, {uint64_t{1} << 40}, 0, 40)})), "shape is not allowed"));
  CHECK(says(parse(model({tensor("a", 1, {1 << 30, 1 << 30, 1 << 30, 1 << 30}, 0, 40)})), "shape contradicts"));
  CHECK(says(parse(model({tensor(Bytes(600, 'x'), 1, {10}, 0, 40)})), "a text of 600 bytes"));
  Bytes elsewhere = tensor("a", 1, {10}, 0, 40);
  elsewhere.replace(elsewhere.find("model.onnx.data"), 15, "/etc/shadow....");
  CHECK(says(parse(model({elsewhere})), "not in model.onnx.data"));
  CHECK(says(parse(text(7, "") + Bytes("\x3a\xff\xff\xff\xff\x0f", 6)), "bytes where"));
  CHECK(says(parse(Bytes(11, '\xff')), "more than 64 bits"));
  CHECK(says(parse(Bytes("\x3b", 1)), "wire type 3"));
  CHECK(parse("").empty());
}

void corrupted() {
  const Bytes whole = model({tensor("a", 1, {2, 3}, 64, 24), tensor("b", 2, {24}, 128, 24), tensor("c", 10, {5}, 256, 10)});
  for (size_t cut = 0; cut < whole.size(); ++cut) parse(whole.substr(0, cut));
  Random random_numbers{3};
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    Bytes bytes = whole;
    for (int flips = 1 + random_numbers.below(4); flips > 0; --flips)
      bytes[random_numbers.next() % bytes.size()] = static_cast<char>(random_numbers.next());
    accepted += parse(bytes).empty();
  }
  CHECK(accepted < 20000);
}

}  // namespace

int main() {
  good();
  bad();
  corrupted();
  return finish("onnx_file_test");
}
