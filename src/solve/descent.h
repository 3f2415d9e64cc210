// Cyclic coordinate descent on the grid: from a point to one that no single change of a code improves.
#pragma once

#include <cstdint>

#include "neap/matrix.h"
#include "solve/system.h"
#include "solve/tile.h"

namespace neap {

struct DescentResult {
  std::int64_t sweeps = 0;          // over the whole tile, the last one (that saw it rest) included
  std::int64_t gradients = 0;       // fresh ones, a matrix product each
  std::int64_t moves = 0;
  std::int64_t unsettled_rows = 0;  // still moving when the sweeps were over
};

// target: (positions, rows). codes: (positions, rows), improved in place, positions from the last to the
// first. A move changes the gradient of its row at once, by one row of A. When no row moves any more the
// gradient is computed afresh, and the end is a point where that one moves nothing either. A code moves only
// if that lowers the objective by more than fp32's rounding of the gradient. Runs on the calling thread.
DescentResult descend_tile(const LayerSystem& system, const TileGrid& grid,
                           MatrixView<const float> target, MatrixView<std::uint8_t> codes,
                           int sweeps);

}  // namespace neap
