// Cyclic descent on a grid of tables, a block at a time: from a choice to one that no change of a single entry
// and, with the entries decided in turn, no change of a block's table improves.
#pragma once

#include "solve/descent.h"
#include "solve/table_walk.h"

namespace neap {

// target: (positions, rows). choice: improved in place, blocks from the last to the first. A block takes another table (or
// other entries of its own) only if that lowers the objective by more than fp32's rounding of the gradient.
// Sweeps, gradients and the end as descend_tile has them; moves counts entries. Runs on the calling thread.
DescentResult descend_tables(const LayerSystem& system, const TableTile& tile, MatrixView<const float> target,
                             TableChoice& choice, int sweeps);

}  // namespace neap
