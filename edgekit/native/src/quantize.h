/* Round-to-nearest quantization of weight rows with a least-squares search for each block. */
#ifndef EDGEKIT_SRC_QUANTIZE_H
#define EDGEKIT_SRC_QUANTIZE_H

#include <cstdint>

namespace ek {

/* The arguments of ek_quantize_rows (edgekit_tools.h). */
struct QuantizeJob {
  const void *rows;
  int dtype;
  int64_t n, k;
  int bits, block_size;
  bool symmetric;
  int scale_dtype;
  uint8_t *codes;
  void *scales;
  uint8_t *zero_points;
};

/* Quantizes the rows. Returns -1, or the row-major index of the first weight that is NaN or too large, where it stops.
 * Throws Error(EK_BAD_ARGUMENT). */
int64_t quantize_rows(const QuantizeJob &job);

}  // namespace ek

#endif
