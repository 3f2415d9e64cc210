// Nearest-plane decoding on a grid of tables: the extended Babai walk with a block as one step. Every table is
// tried: the block's coordinates are decided one by one, each carrying its residual into those that follow; the table of
// the least distance wins, and its residuals go on.
#pragma once

#include <cstdint>

#include "neap/matrix.h"
#include "solve/system.h"
#include "solve/table_tile.h"

namespace neap {

// A tile's choices, by position and by block of the row.
struct TableChoice {
  Matrix<float> entries;           // (positions, rows): of the selected table
  Matrix<std::uint8_t> selectors;  // (blocks, rows)
};

// out(p, r) = values(p, r) - the weight that the choice stands for.
void subtract_weights(const TableTile& tile, const TableChoice& choice, MatrixView<const float> values,
                      MatrixView<float> out);

// target: (positions, rows). Runs on the calling thread. With one table and blocks of any size this is the
// greedy walk of solve/walk.h on another grid.
TableChoice walk_tables(const LayerSystem& system, const TableTile& tile, MatrixView<const float> target);

}  // namespace neap
