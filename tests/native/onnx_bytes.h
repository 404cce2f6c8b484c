/* Writes the parts of a model.onnx in the protobuf wire format. */
#ifndef EDGEKIT_TESTS_ONNX_BYTES_H
#define EDGEKIT_TESTS_ONNX_BYTES_H

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

using Bytes = std::string;

inline Bytes varint(uint64_t value) {
  Bytes bytes;
  for (; value > 127; value >>= 7) bytes += static_cast<char>((value & 127) | 128);
  return bytes + static_cast<char>(value);
}
inline Bytes number(uint32_t field, uint64_t value) { return varint(field << 3) + varint(value); }
inline Bytes text(uint32_t field, const Bytes &value) { return varint((field << 3) | 2) + varint(value.size()) + value; }
inline Bytes entry(const Bytes &key, const Bytes &value) { return text(1, key) + text(2, value); }

inline Bytes tensor(const Bytes &name, int type, std::vector<uint64_t> dims, uint64_t offset, uint64_t length) {
  Bytes bytes;
  for (uint64_t dim : dims) bytes += number(1, dim);
  bytes += number(2, static_cast<uint64_t>(type)) + text(8, name);
  bytes += text(13, entry("location", "model.onnx.data")) + text(13, entry("offset", std::to_string(offset)));
  return bytes + text(13, entry("length", std::to_string(length))) + number(14, 1);
}
inline Bytes model(const std::vector<Bytes> &tensors, const std::vector<std::pair<Bytes, Bytes>> &metadata) {
  Bytes graph, bytes = number(1, 10);
  for (const Bytes &t : tensors) graph += text(5, t);
  bytes += text(7, graph);
  for (const auto &[key, value] : metadata) bytes += text(14, entry("edgekit." + key, value));
  return bytes;
}

#endif
