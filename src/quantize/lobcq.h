// LO-BCQ for the walk: a layer's weights onto the format's grid, by rounding and by lattice
// decoding.
#pragma once

#include "codec/lobcq_encode.h"
#include "neap/matrix.h"
#include "solve/table_layer.h"

namespace neap {

// The nearest weights: scales of either sign searched array by array, or from the largest value alone; no calibration. Throws
// Error(data) naming row and column of a weight that is not finite.
LobcqTensor round_to_lobcq(MatrixView<const float> weight, const CodebookSet& set, ScaleChoice scales = ScaleChoice::search);

struct LobcqSolution {
  LobcqTensor tensor;
  LayerReport report;
};
// solve_table_layer over the codebooks and all scales that the format can store under the tensor's.
// `system` was made with SystemOptions::block = set.layout.block. Throws as round_to_lobcq.
LobcqSolution solve_lobcq(const LayerSystem& system, MatrixView<const float> weight,
                          const CodebookSet& set, const SolveOptions& options);

}  // namespace neap
