// The last step of a fit: entries of integer codebooks moved one at a time, every block free to
// change its codebook. Rounding binds entries more than Lloyd-Max and its like can tell, because
// they hold the blocks of a codebook fixed while they improve it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "neap/codebooks.h"
#include "neap/matrix.h"

namespace neap {

// Moves entries by one while that lowers the weighted sum of squared errors, in sweeps over all of
// them, until none does. blocks, weights: as fit_codebooks. Returns the sum after each sweep, never
// rising. Same result at any thread count.
std::vector<double> refine_codebooks(MatrixView<const std::int16_t> blocks,
                                     std::span<const float> weights, Codebooks& codebooks,
                                     int sweeps);

}  // namespace neap
