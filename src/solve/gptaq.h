// GPTAQ, a baseline: GPTQ's walk with a correction towards the full-precision activations in which each
// input corrects those after it alone. Based on: Y. Li, R. Yin, D. Lee, S. Xiao, P. Panda, "GPTAQ: efficient
// finetuning-free quantization for asymmetric calibration", arXiv 2504.02692, algorithm 1.
#pragma once

#include <cstdint>

#include "neap/matrix.h"
#include "solve/system.h"
#include "solve/tile.h"

namespace neap {

// P = share * mask(D' N^-1 diag(1 / pivots)) N^-T by position, mask keeping what lies below the diagonal:
// the paper's P = ((dX X~' U') o M) U, where U'U = A^-1 in the order of decision. The share of 0.25 is the
// authors' own setting. drift: by input. Parallel; n^3 * 2 flops.
Matrix<float> gptaq_correction(const LayerSystem& system, MatrixView<const float> drift);

// weight: (positions, rows). codes: (positions, rows), written. Inputs are decided in blocks of 128, as the
// authors do, which matters: inside a block a decided input corrects by its value before rounding,
// beyond it by its rounded value. Runs on the calling thread.
void gptaq_walk_tile(const LayerSystem& system, const TileGrid& grid,
                     MatrixView<const float> weight, MatrixView<std::uint8_t> codes);

}  // namespace neap
