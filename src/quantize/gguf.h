// GGUF's block types, in which solver and format meet: grids in the numbers that a block stores.
#pragma once

#include <cstdint>
#include <span>

#include "codec/quantized_weight.h"
#include "solve/layer.h"

namespace neap {

struct GgufSolution {
  QuantizedWeight tensor;  // a GgufTensor, or for MXFP4 and NVFP4 an Fp4Tensor
  LayerReport report;
};

// As solve_layer. IQ4_NL, MXFP4 and NVFP4, whose points are entries of a table, have neither paths nor refits.
GgufSolution solve_gguf(const LayerSystem& system, MatrixView<const float> weight, const GgufLayout& layout,
                        const SolveOptions& options, std::uint64_t key);

// The nearest codes under scales (and minima) of least squared error, or close to it. importance: of each input's
// squared errors, or empty: all 1. Throws Error(data) for a weight that is not finite. The kind of tensor is GgufSolution's.
QuantizedWeight round_to_gguf(MatrixView<const float> weight, const GgufLayout& layout, std::span<const float> importance = {});

}  // namespace neap
