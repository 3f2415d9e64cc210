// Numbers to block-scaled formats and back on the fly, as a layer's inputs are; and INT4 weights. The
// arithmetic is that of compressed-tensors 0.19 in fp32 (fake_quantize with dynamic scales); FP4 weights:
// codec/fp4.h.
//
//   INT4   scale = max |x| / 7.5, 2^-23 for 0; value = scale * clamp(rint(x / scale), -8, 7)
#pragma once

#include <cstdint>
#include <optional>

#include "neap/codec.h"
#include "neap/matrix.h"

namespace neap {

// How a layer's inputs are rounded.
struct BlockScaledInputs {
  BlockScaled format = BlockScaled::nvfp4;
  std::int64_t group = 16;                 // NVFP4: 16, MXFP4: 32
  std::optional<float> global_scale = {};  // NVFP4: of calibration; without, each token has its own

  bool operator==(const BlockScaledInputs&) const = default;
};

// The group that a format has, or that is usual where it leaves the choice (INT4: 64).
std::int64_t usual_group(BlockScaled format);

// Each row by itself: groups under scales of their largest magnitudes, values rounded and decoded again.
// The group divides the columns (NEAP_CHECK). out: as x, and may be x. One thread. Throws Error(data)
// naming row and column of a NaN or infinity.
void round_block_scaled(const BlockScaledInputs& inputs, MatrixView<const float> x, MatrixView<float> out);

// INT4 weights: scales as above, then rounded to layout.scale_type, and values under what is stored.
// weight: (rows, cols), finite; layout: 4 bits, symmetric, its group divides cols (NEAP_CHECK). Parallel.
QuantizedTensor round_to_int4(MatrixView<const float> weight, const GroupLayout& layout);

}  // namespace neap
