// One linear layer: matrices in, codes and a report out. No files, no models.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "neap/codec.h"
#include "neap/matrix.h"
#include "solve/grid.h"
#include "solve/system.h"

namespace neap {

struct SolveOptions {
  GridSearch grid = GridSearch::weighted;  // fitted to the targets, weighted by LayerSystem::importance; with two levels by A_ii
  int paths = 5;            // Klein's K beside the greedy path; 0: the greedy walk alone
  int descent_sweeps = 32;  // at most; 0: none
  int refits = 0;           // rounds of refit and descent again, at most; masked targets have none
};

struct StageCost {
  double seconds = 0, flops = 0;  // wall time; additions and multiplications that the stage needs
};

struct LayerReport {
  // ||R (w^ - t)||^2 summed over rows; negative: the stage did not run. The last two are evaluated in fp64,
  // rounding and greedy from fp32 products, summed in fp64. Rounding is that on the grid before any refit.
  double objective_rounding = -1, objective_greedy = -1, objective_paths = -1, objective_descent = -1;
  double objective_refit = -1;
  double relative_error = 0;  // ||X~ (W^ - W)'||^2 / ||X~ W'||^2; 0 where the denominator is
  double rho = 0;             // Klein's, 0 without paths
  std::vector<std::int64_t> rows_won;             // by the greedy path, then by each of Klein's
  std::vector<std::int64_t> coordinates_sampled;  // per path of Klein's: codes that differ from greedy
  std::int64_t sweeps = 0, moves = 0;  // most sweeps of any row; moves in all
  std::int64_t unsettled_rows = 0;     // had not come to rest after descent_sweeps
  std::int64_t refitted = 0;           // changes of a group's scale
  StageCost grid, target, walk, descent, refit, evaluation;
};

struct LayerSolution {
  QuantizedTensor tensor;
  LayerReport report;
};

// On a grid that a QuantizedTensor has no words for.
struct GridSolution {
  Grid grid;
  std::vector<std::uint8_t> codes;  // (rows, cols)
  LayerReport report;
};

// weight: (out, in), out >= 1, in = system.inputs(). `key` names the stream of random numbers
// (stream_key(seed, tensor name)). Same arguments, same bytes, at any thread count. Throws Error(data) naming
// row and column for a weight that is not finite, Error(argument) for options or a layout out of range.
// Memory beside the arguments: about 9 bytes per weight, and (paths + 1) n tiles of 64 rows per thread.
LayerSolution solve_layer(const LayerSystem& system, MatrixView<const float> weight,
                          const GroupLayout& layout, const SolveOptions& options, std::uint64_t key);

// The same with scales and zeros in another form; layout: bits and group.
GridSolution solve_layer_in_form(const LayerSystem& system, MatrixView<const float> weight,
                                 const GroupLayout& layout, GridForm form, const SolveOptions& options,
                                 std::uint64_t key);

// The same on a grid that was chosen elsewhere (options.grid is not looked at, and nothing is refitted).
LayerSolution solve_on_grid(const LayerSystem& system, MatrixView<const float> weight,
                            const Grid& grid,
                          const SolveOptions& options, std::uint64_t key);

// Throws Error(data) naming row and column for a weight that is not finite.
void require_finite(MatrixView<const float> weight);

// The nearest code of every weight. importance: as make_grid has it; only with GridSearch::weighted.
QuantizedTensor round_to_nearest(MatrixView<const float> weight, const GroupLayout& layout,
                                 GridSearch search = GridSearch::weighted,
                                 std::span<const float> importance = {});
QuantizedTensor round_to_grid(MatrixView<const float> weight, const Grid& grid);
// The codes alone, (rows, cols), on a grid of any form.
std::vector<std::uint8_t> nearest_codes(MatrixView<const float> weight, const Grid& grid);

}  // namespace neap
