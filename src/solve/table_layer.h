// One linear layer on a grid of tables: what solve/layer.h is for integers.
#pragma once

#include "solve/layer.h"
#include "solve/table_grid.h"

namespace neap {

struct TableSolution {
  TableTensor tensor;
  LayerReport report;
};

// weight: (out, in), finite; system: made with SystemOptions::block = layout.block. Targets, then scales (weighted by the
// conditional metric), then the walk, then descent over entries and tables; options.paths and refits are not looked at: Klein's
// paths would have to draw tables. Objectives in the report as LayerReport has them. Same bytes at any thread
// count. Throws Error(data) naming row and column for a weight that is not finite.
TableSolution solve_table_layer(const LayerSystem& system, MatrixView<const float> weight, const TableLayout& layout,
                                const SolveOptions& options);

}  // namespace neap
