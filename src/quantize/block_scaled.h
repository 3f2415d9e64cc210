// Block-scaled formats for the walk: NVFP4's global scales, and a layer's weights onto FP4 by lattice
// decoding.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "calib/streams.h"
#include "codec/fp4.h"
#include "model/weights.h"
#include "quantize/plan.h"
#include "solve/table_layer.h"

namespace neap {

// NVFP4's global scale of the weights that `stage` of a block reads into: one for all that the plan
// quantizes, because engines join q, k, v and gate, up into one matrix. 1 where none is NVFP4. weight_of gives
// the weights that will be decided, which balancing may have changed. Throws Error(data) naming module, row and column of
// a weight that is not finite.
float shared_global_scale(const Plan& plan, std::int64_t layer, Stage stage,
                          const std::function<Matrix<float>(Role)>& weight_of);

struct Fp4Solution {
  Fp4Tensor tensor;
  LayerReport report;
};
// solve_table_layer over the E2M1 numbers and all group scales that the format can store under
// `global_scale` (1 for MXFP4). `system` was made with SystemOptions::block = 1. Throws Error(data)
// naming row and column of a weight that is not finite.
Fp4Solution solve_fp4(const LayerSystem& system, MatrixView<const float> weight, const Fp4Layout& layout,
                      float global_scale, const SolveOptions& options);

// The nearest codes under group scales of least squared error among those near the largest value's. importance: of each input's squared
// errors, or empty: all 1. weight: finite.
Fp4Tensor search_fp4(MatrixView<const float> weight, const Fp4Layout& layout, float global_scale, std::span<const float> importance);

}  // namespace neap
