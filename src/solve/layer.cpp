#include "solve/layer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/parallel.h"
#include "neap/error.h"
#include "solve/descent.h"
#include "solve/gptaq.h"
#include "solve/klein.h"
#include "solve/objective.h"
#include "solve/refit.h"
#include "solve/stopwatch.h"
#include "solve/tile.h"
#include "solve/walk.h"

namespace neap {
namespace {

constexpr int kRefitSweeps = 4;

void require_sound(const LayerSystem& system, MatrixView<const float> weight,
                   const SolveOptions& options) {
  NEAP_CHECK(weight.rows > 0 && weight.cols == system.inputs());
  if (options.paths < 0 || options.descent_sweeps < 0 || options.refits < 0) {
    throw Error(ErrorCode::argument, "paths, sweeps and refits must not be negative");
  }
  require_finite(weight);
}

// What one tile of rows carries from stage to stage; all by position.
struct Tile {
  std::size_t first = 0, rows = 0;
  Matrix<float> target;
  Matrix<std::uint8_t> codes;
  std::vector<double> at_greedy, at_paths, at_descent, at_refit;  // objective by row
  double at_rounding = 0, error = 0, energy = 0;        // summed over rows
};

class LayerSolver {
 public:
  LayerSolver(const LayerSystem& system, MatrixView<const float> weight,
              const SolveOptions& options, std::uint64_t key)
      : system_(system), weight_(weight), options_(options), key_(key) {
    const std::size_t rows = rows_per_tile(weight.rows);
    for (std::size_t first = 0; first < weight.rows; first += rows) {
      Tile tile;
      tile.first = first;
      tile.rows = std::min(rows, weight.rows - first);
      tiles_.push_back(std::move(tile));
    }
  }

  GridSolution solve(const GroupLayout& layout, GridForm form) {
    set_targets();
    search_grid(layout, form);
    decide();
    return finish();
  }

  GridSolution solve(const Grid& grid) {
    set_targets();
    grid_ = grid;
    decide();
    return finish();
  }

 private:
  void decide() {
    compare_rounding();
    if (system_.options().masked_target) return masked_walk();
    walk();
    if (options_.descent_sweeps > 0) descend();
    for (int round = 0; round < options_.refits && refit(); ++round) continue;
  }

  GridSolution finish() {
    measure_output();
    sum_up();
    return {grid_, collect(), report_};
  }

  double walk_flops() const {  // of one path over all rows
    return static_cast<double>(weight_.rows) * weight_.cols * weight_.cols;
  }

  TileGrid grid_of(const Tile& tile) const {
    return TileGrid(grid_, tile.first, tile.rows, system_.input_at());
  }

  void set_targets() {
    const Stopwatch watch;
    parallel_for(tiles_.size(), [&](std::size_t k) {
      Tile& tile = tiles_[k];
      tile.target = Matrix<float>(weight_.cols, tile.rows);
      load_tile(weight_, tile.first, system_.input_at(), tile.target);
      system_.to_target(tile.target, tile.first);
    });
    report_.target = {watch.seconds(), system_.drift().empty() ? 0 : 4 * walk_flops()};
  }

  // By input, what an error costs: with two levels by itself, else as LayerSystem has it. A sub-scale takes what its group's
  // neighbours leave it, so that inputs of huge energy that go together do not make up for each other (docs/formats/gguf.md).
  std::vector<float> importance(GridForm form) const {
    if (form != GridForm::super_signed && form != GridForm::super_minimum) return system_.importance();
    std::vector<float> diagonal(weight_.cols);
    for (std::size_t p = 0; p < weight_.cols; ++p) diagonal[system_.input_at()[p]] = system_.metric()(p, p);
    return diagonal;
  }

  // The scales serve the targets.
  void search_grid(const GroupLayout& layout, GridForm form) {
    const Stopwatch watch;
    const std::vector<float> weights = importance(form);
    grid_ = empty_grid(layout, weight_.rows, weight_.cols, form);
    parallel_for(tiles_.size(), [&](std::size_t k) {
      const Tile& tile = tiles_[k];
      Matrix<float> by_input(tile.rows, weight_.cols);
      for (std::size_t p = 0; p < weight_.cols; ++p) {
        for (std::size_t r = 0; r < tile.rows; ++r) {
          by_input(r, system_.input_at()[p]) = tile.target(p, r);
        }
      }
      const Grid grid = make_grid(by_input, layout, options_.grid, weights, form);
      copy_rows(grid, 0, grid_, tile.first, tile.rows);
    });
    report_.grid = {watch.seconds(), 0};
  }

  void walk() {
    const Stopwatch watch;
    PathSampler sampler{options_.paths, 0, key_, 0};
    if (options_.paths > 0) sampler.rho = report_.rho = klein_rho(weight_.cols, options_.paths);
    std::vector<WalkResult> results(tiles_.size());
    parallel_for(tiles_.size(), [&](std::size_t k) {
      PathSampler own = sampler;
      own.first_row = tiles_[k].first;
      results[k] = walk_tile(system_, grid_of(tiles_[k]), tiles_[k].target, own);
    });
    report_.rows_won.assign(options_.paths + 1, 0);
    report_.coordinates_sampled.assign(options_.paths, 0);
    for (std::size_t k = 0; k < tiles_.size(); ++k) {
      for (const int winner : results[k].winner) ++report_.rows_won[winner];
      for (int path = 0; path < options_.paths; ++path) {
        report_.coordinates_sampled[path] += results[k].sampled[path];
      }
      tiles_[k].codes = std::move(results[k].codes);
      tiles_[k].at_greedy = std::move(results[k].greedy_scores);
    }
    report_.walk = {watch.seconds(), (options_.paths + 1) * walk_flops()};
    evaluate_start(results);
  }

  // In fp64 what descent starts from; a greedy path that lost keeps the walk's own figure.
  void evaluate_start(const std::vector<WalkResult>& results) {
    const Stopwatch watch;
    parallel_for(tiles_.size(), [&](std::size_t k) {
      Tile& tile = tiles_[k];
      tile.at_paths = objective(tile);
      for (std::size_t r = 0; r < tile.rows; ++r) {
        const bool won = results[k].winner[r] == 0;
        tile.at_greedy[r] = won ? tile.at_paths[r] : std::max(tile.at_greedy[r], tile.at_paths[r]);
      }
    });
    report_.evaluation.seconds += watch.seconds();
    report_.evaluation.flops += walk_flops();
  }

  void masked_walk() {
    const Stopwatch watch;
    parallel_for(tiles_.size(), [&](std::size_t k) {
      Tile& tile = tiles_[k];
      tile.codes = Matrix<std::uint8_t>(weight_.cols, tile.rows);
      gptaq_walk_tile(system_, grid_of(tile), tile.target, tile.codes);
      tile.at_greedy = objective(tile);
    });
    report_.walk = {watch.seconds(), 2 * walk_flops()};
  }

  void descend() {
    const Stopwatch watch;
    std::vector<DescentResult> results(tiles_.size());
    std::vector<Matrix<std::uint8_t>> start(tiles_.size());
    parallel_for(tiles_.size(), [&](std::size_t k) {
      Tile& tile = tiles_[k];
      start[k] = tile.codes;
      results[k] = descend_tile(system_, grid_of(tile), tile.target, tile.codes,
                                options_.descent_sweeps);
    });
    double products = 0;  // of a row of length in
    for (std::size_t k = 0; k < tiles_.size(); ++k) {
      const DescentResult& result = results[k];
      report_.sweeps = std::max(report_.sweeps, result.sweeps);
      report_.moves += result.moves;
      report_.unsettled_rows += result.unsettled_rows;
      products += static_cast<double>(result.gradients * tiles_[k].rows * weight_.cols);
      products += static_cast<double>(result.moves);
    }
    report_.descent = {watch.seconds(), 2 * products * weight_.cols};
    evaluate_end(start);
  }

  // Where fp32 took a row uphill after all, the row goes back to its start.
  void evaluate_end(const std::vector<Matrix<std::uint8_t>>& start) {
    const Stopwatch watch;
    parallel_for(tiles_.size(), [&](std::size_t k) {
      Tile& tile = tiles_[k];
      tile.at_descent = objective(tile);
      for (std::size_t r = 0; r < tile.rows; ++r) {
        if (tile.at_descent[r] <= tile.at_paths[r]) continue;
        tile.at_descent[r] = tile.at_paths[r];
        for (std::size_t p = 0; p < weight_.cols; ++p) tile.codes(p, r) = start[k](p, r);
      }
    });
    report_.evaluation.seconds += watch.seconds();
    report_.evaluation.flops += walk_flops();
  }

  std::vector<double> objective(const Tile& tile) const {
    Matrix<float> error(weight_.cols, tile.rows);
    subtract_weights(grid_of(tile), tile.codes, tile.target, error);
    return evaluate_objective(system_, error);
  }

  // A round that changes nothing is the last; returns whether this one did.
  bool refit() {
    const Stopwatch watch;
    std::vector<std::int64_t> moves(tiles_.size());
    parallel_for(tiles_.size(), [&](std::size_t k) { moves[k] = refit(tiles_[k]); });
    const std::int64_t changed = std::accumulate(moves.begin(), moves.end(), std::int64_t{0});
    report_.refitted += changed;
    report_.refit.seconds += watch.seconds();
    return changed > 0;
  }

  // Where fp32 took a row uphill after all, the row goes back to its start.
  std::int64_t refit(Tile& tile) {
    const Matrix<std::uint8_t> codes = tile.codes;
    Grid start = empty_grid(grid_.layout, tile.rows, grid_.cols, grid_.form);
    copy_rows(grid_, tile.first, start, 0, tile.rows);
    const std::int64_t moves = refit_tile(system_, grid_, tile.first, tile.target, tile.codes, kRefitSweeps);
    if (options_.descent_sweeps > 0) {
      descend_tile(system_, grid_of(tile), tile.target, tile.codes, options_.descent_sweeps);
    }
    const std::vector<double>& before =
        !tile.at_refit.empty() ? tile.at_refit : !tile.at_descent.empty() ? tile.at_descent : tile.at_paths;
    std::vector<double> after = objective(tile);
    for (std::size_t r = 0; r < tile.rows; ++r) {
      if (after[r] <= before[r]) continue;
      after[r] = before[r];
      for (std::size_t p = 0; p < weight_.cols; ++p) tile.codes(p, r) = codes(p, r);
      copy_rows(start, r, grid_, tile.first + r, 1);
    }
    tile.at_refit = std::move(after);
    return moves;
  }

  // What plain rounding of the weight to the same grid would leave.
  void compare_rounding() {
    const Stopwatch watch;
    parallel_for(tiles_.size(), [&](std::size_t k) {
      Tile& tile = tiles_[k];
      const TileGrid grid = grid_of(tile);
      Matrix<float> weight(weight_.cols, tile.rows), error(weight_.cols, tile.rows);
      Matrix<std::uint8_t> rounded(weight_.cols, tile.rows);
      load_tile(weight_, tile.first, system_.input_at(), weight);
      round_tile(grid, weight, rounded);
      subtract_weights(grid, rounded, tile.target, error);
      for (const double v : estimate_objective(system_, error)) tile.at_rounding += v;
    });
    report_.evaluation.seconds += watch.seconds();
    report_.evaluation.flops += walk_flops();
  }

  void measure_output() {
    const Stopwatch watch;
    parallel_for(tiles_.size(), [&](std::size_t k) {
      Tile& tile = tiles_[k];
      Matrix<float> weight(weight_.cols, tile.rows), error(weight_.cols, tile.rows);
      load_tile(weight_, tile.first, system_.input_at(), weight);
      subtract_weights(grid_of(tile), tile.codes, weight, error);
      tile.error = output_energy(system_, error);
      tile.energy = output_energy(system_, weight);
    });
    report_.evaluation.seconds += watch.seconds();
    report_.evaluation.flops += 2 * walk_flops();
  }

  void sum_up() {
    double error = 0, energy = 0;
    report_.objective_rounding = 0;
    for (const Tile& tile : tiles_) {
      report_.objective_rounding += tile.at_rounding;
      error += tile.error;
      energy += tile.energy;
    }
    report_.relative_error = energy > 0 ? error / energy : 0;
    report_.objective_greedy = sum(&Tile::at_greedy);
    if (!report_.coordinates_sampled.empty()) report_.objective_paths = sum(&Tile::at_paths);
    if (!tiles_[0].at_descent.empty()) report_.objective_descent = sum(&Tile::at_descent);
    if (!tiles_[0].at_refit.empty()) report_.objective_refit = sum(&Tile::at_refit);
  }

  double sum(std::vector<double> Tile::*values) const {
    double total = 0;
    for (const Tile& tile : tiles_) {
      for (const double v : tile.*values) total += v;
    }
    return total;
  }

  std::vector<std::uint8_t> collect() const;

  const LayerSystem& system_;
  MatrixView<const float> weight_;
  Grid grid_;
  const SolveOptions& options_;
  std::uint64_t key_;
  std::vector<Tile> tiles_;
  LayerReport report_;
};

std::vector<std::uint8_t> LayerSolver::collect() const {
  std::vector<std::uint8_t> collected(weight_.rows * weight_.cols);
  for (const Tile& tile : tiles_) {
    for (std::size_t r = 0; r < tile.rows; ++r) {
      std::uint8_t* codes = collected.data() + (tile.first + r) * weight_.cols;
      for (std::size_t p = 0; p < weight_.cols; ++p) {
        codes[system_.input_at()[p]] = tile.codes(p, r);
      }
    }
  }
  return collected;
}

QuantizedTensor to_tensor(const Grid& grid, std::vector<std::uint8_t> codes) {
  QuantizedTensor tensor{grid.layout, static_cast<std::int64_t>(grid.scales.rows()),
                         static_cast<std::int64_t>(grid.cols), std::move(codes), {}, {}};
  tensor.scales.assign(grid.scales.data(),
                       grid.scales.data() + grid.scales.rows() * grid.scales.cols());
  if (!grid.layout.symmetric) {
    tensor.zeros.assign(grid.zeros.data(),
                        grid.zeros.data() + grid.zeros.rows() * grid.zeros.cols());
  }
  return tensor;
}

LayerSolution to_layer(GridSolution solution) {
  return {to_tensor(solution.grid, std::move(solution.codes)), std::move(solution.report)};
}

}  // namespace

void require_finite(MatrixView<const float> weight) {
  for (std::size_t r = 0; r < weight.rows; ++r) {
    for (std::size_t c = 0; c < weight.cols; ++c) {
      if (std::isfinite(weight(r, c))) continue;
      throw Error(ErrorCode::data, "weight is not finite",
                  {.found = std::to_string(weight(r, c)) + " at row " + std::to_string(r) +
                            ", column " + std::to_string(c)});
    }
  }
}

LayerSolution solve_layer(const LayerSystem& system, MatrixView<const float> weight,
                          const GroupLayout& layout, const SolveOptions& options,
                          std::uint64_t key) {
  return to_layer(solve_layer_in_form(system, weight, layout, GridForm::zero_points, options, key));
}

GridSolution solve_layer_in_form(const LayerSystem& system, MatrixView<const float> weight,
                                 const GroupLayout& layout, GridForm form, const SolveOptions& options,
                                 std::uint64_t key) {
  require_sound(system, weight, options);
  return LayerSolver(system, weight, options, key).solve(layout, form);
}

LayerSolution solve_on_grid(const LayerSystem& system, MatrixView<const float> weight,
                            const Grid& grid, const SolveOptions& options, std::uint64_t key) {
  NEAP_CHECK(grid.cols == weight.cols && grid.scales.rows() == weight.rows);
  NEAP_CHECK(grid.form == GridForm::zero_points);
  require_sound(system, weight, options);
  SolveOptions given = options;
  given.refits = 0;
  return to_layer(LayerSolver(system, weight, given, key).solve(grid));
}

QuantizedTensor round_to_nearest(MatrixView<const float> weight, const GroupLayout& layout,
                                 GridSearch search, std::span<const float> importance) {
  require_finite(weight);
  return round_to_grid(weight, make_grid(weight, layout, search, importance));
}

QuantizedTensor round_to_grid(MatrixView<const float> weight, const Grid& grid) {
  NEAP_CHECK(grid.form == GridForm::zero_points);
  return to_tensor(grid, nearest_codes(weight, grid));
}

std::vector<std::uint8_t> nearest_codes(MatrixView<const float> weight, const Grid& grid) {
  NEAP_CHECK(grid.cols == weight.cols && grid.scales.rows() == weight.rows);
  require_finite(weight);
  std::vector<std::uint8_t> nearest(weight.rows * weight.cols);
  const std::size_t rows = rows_per_tile(weight.rows);
  std::vector<std::uint32_t> natural(weight.cols);
  for (std::size_t c = 0; c < weight.cols; ++c) natural[c] = static_cast<std::uint32_t>(c);
  parallel_for((weight.rows + rows - 1) / rows, [&](std::size_t k) {
    const std::size_t first = k * rows, count = std::min(rows, weight.rows - first);
    Matrix<float> values(weight.cols, count);
    Matrix<std::uint8_t> codes(weight.cols, count);
    load_tile(weight, first, natural, values);
    round_tile(TileGrid(grid, first, count, natural), values, codes);
    for (std::size_t r = 0; r < count; ++r) {
      for (std::size_t c = 0; c < weight.cols; ++c) {
        nearest[(first + r) * weight.cols + c] = codes(c, r);
      }
    }
  });
  return nearest;
}

}  // namespace neap
