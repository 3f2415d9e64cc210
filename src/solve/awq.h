// AWQ, a baseline: channel scales that protect the inputs of large activations, and clipped ranges, both
// found by search over rounding. Based on: J. Lin et al., "AWQ: activation-aware weight quantization",
// arXiv 2306.00978, sections 3.2 and 4 (and the authors' own grids of 20 points).
#pragma once

#include <span>
#include <vector>

#include "neap/codec.h"
#include "neap/matrix.h"
#include "solve/grid.h"

namespace neap {

struct AwqLayer {
  MatrixView<const float> weight;  // (out, in)
  GroupLayout layout;
};

struct AwqScales {
  // One per input, > 0: the layers' columns are multiplied by it, what feeds them is divided by it.
  std::vector<float> scales;
  double exponent = 0;              // alpha of scales ~ magnitude^alpha; 0: all scales are 1
  double error = 0, error_plain = 0;  // summed ||X~ (W^ - W)'||^2 with these scales, and without any
};

// The best of the 20 exponents 0, 1/20 .. 19/20 for the layers that share an input. gram: H (in, in) of the
// inputs before scaling. magnitudes: mean |x| of each input. Parallel.
AwqScales search_awq_scales(MatrixView<const float> gram, std::span<const float> magnitudes,
                            std::span<const AwqLayer> layers);

// The grid of the weight clipped at the best of 20 shares (1, 0.975 .. 0.525) of each group's largest
// |weight|, by the group's own output error. gram: of the inputs that this weight reads (after scaling, if any:
// h_ij / (s_i s_j)). Parallel.
Grid search_awq_clip(MatrixView<const float> gram, MatrixView<const float> weight,
                     const GroupLayout& layout);

}  // namespace neap
