/* Reads the parts of model.onnx that the engine needs: the initializers stored in model.onnx.data, and metadata_props.
 *
 * The nodes of the graph are not needed: metadata_props has every architecture number as edgekit.* (export/decoder.py), and
 * the names of the initializers identify them (layout.py). */
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
 * data_size: the size of model.onnx.data. Every initializer must be inside it. Two initializers may have the same bytes (a
 * tied lm_head); any other overlap is an error. Throws Error(EK_BAD_FILE). */
OnnxFile parse_onnx(const uint8_t *bytes, size_t size, uint64_t data_size);

}  // namespace ek

#endif
