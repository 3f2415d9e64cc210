// Scales of two levels: which small integers and which fp16 numbers above them lose least.
#pragma once

#include <cstddef>

#include "solve/grid.h"

namespace neap {

// One row: grid.scales and grid.zeros hold the best numbers of each group by itself, and get those that two levels can
// hold, with what stands behind them in grid.super_blocks. weight, importance: as make_grid has them, of the row.
// Fp16 scales and minima are searched around those that put the largest group's at the end of the integers, then fitted
// to the codes by least squares in turn with the integers of each group.
void search_super_blocks(const float* weight, const float* importance, std::size_t row, Grid& grid);

}  // namespace neap
