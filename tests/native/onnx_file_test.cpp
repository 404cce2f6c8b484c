/* Tests the reader of model.onnx: a valid file is read, and invalid ones are errors. */
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "onnx_bytes.h"
#include "src/error.h"
#include "src/onnx_file.h"

namespace {

Bytes model(const std::vector<Bytes> &tensors) { return ::model(tensors, {{"vocab_size", "99"}}); }

/* The error message of parse_onnx; empty if it succeeds. */
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
  CHECK(says(parse(model({tensor("a", 1, {300}, 0, 1200)})), "bytes 0 to 1200 of model.onnx.data, which has only 1000"));
  CHECK(says(parse(model({tensor("a", 1, {100}, 700, 400)})), "model.onnx.data, which has only 1000"));
  CHECK(says(parse(model({tensor("a", 1, {10}, 0, 41)})), "which contradicts its shape"));
  CHECK(says(parse(model({tensor("a", 7, {10}, 0, 80)})), "element type 7"));
  CHECK(says(parse(model({tensor("a", 1, {10}, 0, 40), tensor("a", 1, {10}, 64, 40)})), "two tensors named a"));
  CHECK(says(parse(model({tensor("a", 1, {10}, 0, 40), tensor("b", 1, {10}, 36, 40)})), "overlap at byte 36"));
  CHECK(says(parse(model({tensor("a", 1, {1, 1, 1, 1, 10}, 0, 40)})), "shape of a tensor is not valid"));
  CHECK(says(parse(model({tensor("a", 1, {uint64_t{1} << 40}, 0, 40)})), "shape of a tensor is not valid"));
  CHECK(says(parse(model({tensor("a", 1, {1 << 30, 1 << 30, 1 << 30, 1 << 30}, 0, 40)})), "which contradicts its shape"));
  CHECK(says(parse(model({tensor(Bytes(600, 'x'), 1, {10}, 0, 40)})), "a text of 600 bytes"));
  Bytes elsewhere = tensor("a", 1, {10}, 0, 40);
  elsewhere.replace(elsewhere.find("model.onnx.data"), 15, "/etc/shadow....");
  CHECK(says(parse(model({elsewhere})), "not in model.onnx.data"));
  CHECK(says(parse(text(7, "") + Bytes("\x3a\xff\xff\xff\xff\x0f", 6)), "bytes where"));
  CHECK(says(parse(Bytes(11, '\xff')), "more than 64 bits"));
  CHECK(says(parse(Bytes("\x3b", 1)), "wire type 3"));
  CHECK(parse("").empty());
  CHECK(says(parse(text(7, text(5, text(1, "\x0a\x80") + text(8, "a")))), "ends inside a number"));
  const std::vector<Bytes> shared = {tensor("a", 1, {10}, 0, 40), tensor("b", 2, {40}, 0, 40), tensor("c", 1, {5, 2}, 0, 40)};
  CHECK(parse(model({shared[0], shared[1]})).empty());
  CHECK(says(parse(model(shared)), "more than two tensors share byte 0"));
  const uint64_t vast = uint64_t{1} << 63; /* the size in bytes of 2^62 floats overflows 64 bits to 0 */
  CHECK(says(parse(model({tensor("a", 1, {1 << 30, 1 << 30, 4}, 0, 0)}), vast), "which contradicts its shape"));
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
