// Scales chosen after the codes: with the codes held, the objective is a quadratic form in a group's scale and
// offset, and its least value among the numbers that the file can hold is found in closed form.
#pragma once

#include <cstdint>

#include "neap/matrix.h"
#include "solve/grid.h"
#include "solve/system.h"

namespace neap {

// Rows [first, first + target.cols) of `grid`, whose codes stay: group after group, the scale and zero that lower
// ||R (w^ - t)||^2 most, given all other groups, rounded as grid.form has them; taken only if that gains by more
// than fp32's rounding. At most `sweeps` over all groups. With zero_points and no symmetry the zero moves by at
// most one at a time; signs stay. With two levels a super-block's fp16 numbers move as well, all its groups' integers held. target, codes: (positions, rows). Returns how many groups
// moved, each counted as often as it did. Runs on the calling thread; rows of other tiles are not looked at.
std::int64_t refit_tile(const LayerSystem& system, Grid& grid, std::size_t first,
                        MatrixView<const float> target, MatrixView<const std::uint8_t> codes, int sweeps);

}  // namespace neap
