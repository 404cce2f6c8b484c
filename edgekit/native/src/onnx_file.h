/* What the engine reads of model.onnx: the table of initializers that lie in model.onnx.data, and metadata_props.
 *
 * The nodes are not read: metadata_props carry every architecture number as edgekit.* (export/decoder.py), and the
 * initializers' names tell what they are (layout.py). */
#ifndef EDGEKIT_SRC_ONNX_FILE_H
#define EDGEKIT_SRC_ONNX_FILE_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ek {

/* TensorProto.DataType, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto */
enum ElementType { kFloat32 = 1, kUint8 = 2, kFloat16 = 10 };

struct Tensor {
  int type = 0;
  std::vector<int64_t> dims;
  uint64_t offset = 0, length = 0; /* in model.onnx.data */
};

struct OnnxFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/* Parse the bytes of model.onnx. Every length, count and offset is checked before it is used.
 *
 * data_size: bytes of model.onnx.data; an initializer must lie inside it, and two must not overlap unless they are the
 * very same bytes (a tied lm_head); more than two never share any. Throws Error(EK_BAD_FILE). */
OnnxFile parse_onnx(const uint8_t *bytes, size_t size, uint64_t data_size);

}  // namespace ek

#endif
