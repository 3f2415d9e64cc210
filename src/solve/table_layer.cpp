#include "solve/table_layer.h"

#include <algorithm>

#include "base/parallel.h"
#include "solve/objective.h"
#include "solve/stopwatch.h"
#include "solve/table_descent.h"
#include "solve/table_walk.h"
#include "solve/tile.h"

namespace neap {
namespace {

struct Tile {
  std::size_t first = 0, rows = 0;
  Matrix<float> target;  // by position
  TableChoice choice;
  std::vector<double> at_walk, at_descent;
  double at_rounding = 0, error = 0, energy = 0;
};

class TableSolver {
 public:
  TableSolver(const LayerSystem& system, MatrixView<const float> weight, const TableLayout& layout)
      : system_(system), weight_(weight), layout_(layout) {
    const std::size_t rows = rows_per_tile(weight.rows);
    for (std::size_t first = 0; first < weight.rows; first += rows) {
      Tile tile;
      tile.first = first;
      tile.rows = std::min(rows, weight.rows - first);
      tiles_.push_back(std::move(tile));
    }
  }

  TableSolution solve(const SolveOptions& options) {
    set_targets();
    search();
    each(report_.walk, 1, [&](Tile& tile) { tile.choice = walk_tables(system_, grid_of(tile), tile.target); });
    each(report_.evaluation, 1, [&](Tile& tile) { tile.at_walk = objective(tile); });
    if (options.descent_sweeps > 0) descend(options.descent_sweeps);
    each(report_.evaluation, 3, [&](Tile& tile) { compare(tile); });
    sum_up();
    return {collect(), report_};
  }

 private:
  // Runs `work` on all tiles and books its time and, in products of the weight with a square matrix, its work.
  template <class Work>
  void each(StageCost& cost, double products, const Work& work) {
    const Stopwatch watch;
    parallel_for(tiles_.size(), [&](std::size_t k) { work(tiles_[k]); });
    cost.seconds += watch.seconds();
    cost.flops += products * static_cast<double>(weight_.rows) * static_cast<double>(weight_.cols * weight_.cols);
  }

  TableTile grid_of(const Tile& tile) const {
    return TableTile(layout_, scales_, tile.first, tile.rows, system_.input_at());
  }

  void set_targets() {
    by_input_ = Matrix<float>::unset(weight_.rows, weight_.cols);
    each(report_.target, system_.drift().empty() ? 0 : 4, [&](Tile& tile) {
      tile.target = Matrix<float>(weight_.cols, tile.rows);
      load_tile(weight_, tile.first, system_.input_at(), tile.target);
      system_.to_target(tile.target, tile.first);
      for (std::size_t p = 0; p < weight_.cols; ++p) {
        for (std::size_t r = 0; r < tile.rows; ++r) by_input_(tile.first + r, system_.input_at()[p]) = tile.target(p, r);
      }
    });
  }

  void search() {
    const Stopwatch watch;
    scales_ = search_scales(by_input_, layout_, system_.importance());
    by_input_ = {};
    report_.grid = {watch.seconds(), 0};
  }

  // Where fp32 took a row uphill after all, the row goes back to its start.
  void descend(int sweeps) {
    std::vector<DescentResult> results(tiles_.size());
    std::vector<TableChoice> start(tiles_.size());
    each(report_.descent, 0, [&](Tile& tile) {
      const std::size_t k = static_cast<std::size_t>(&tile - tiles_.data());
      start[k] = tile.choice;
      results[k] = descend_tables(system_, grid_of(tile), tile.target, tile.choice, sweeps);
    });
    each(report_.evaluation, 1, [&](Tile& tile) {
      const TableChoice& before = start[static_cast<std::size_t>(&tile - tiles_.data())];
      tile.at_descent = objective(tile);
      for (std::size_t r = 0; r < tile.rows; ++r) {
        if (tile.at_descent[r] <= tile.at_walk[r]) continue;
        tile.at_descent[r] = tile.at_walk[r];
        for (std::size_t p = 0; p < weight_.cols; ++p) tile.choice.entries(p, r) = before.entries(p, r);
        for (std::size_t b = 0; b < before.selectors.rows(); ++b) tile.choice.selectors(b, r) = before.selectors(b, r);
      }
    });
    for (std::size_t k = 0; k < tiles_.size(); ++k) {
      report_.sweeps = std::max(report_.sweeps, results[k].sweeps);
      report_.moves += results[k].moves;
      report_.unsettled_rows += results[k].unsettled_rows;
      const auto products = static_cast<double>(results[k].gradients * static_cast<std::int64_t>(tiles_[k].rows * weight_.cols) +
                                                results[k].moves);
      report_.descent.flops += 2 * products * static_cast<double>(weight_.cols);
    }
  }

  std::vector<double> objective(const Tile& tile) const {
    Matrix<float> error(weight_.cols, tile.rows);
    subtract_weights(grid_of(tile), tile.choice, tile.target, error);
    return evaluate_objective(system_, error);
  }

  // What the table of layers compares with: plain rounding on the same scales, and the layer's output.
  void compare(Tile& tile) const {
    Matrix<float> weight(weight_.cols, tile.rows), error(weight_.cols, tile.rows);
    load_tile(weight_, tile.first, system_.input_at(), weight);
    subtract_weights(grid_of(tile), tile.choice, weight, error);
    tile.error = output_energy(system_, error);
    tile.energy = output_energy(system_, weight);
    Matrix<std::int32_t> scales(tile.rows, scales_.cols());
    std::copy_n(scales_.row(tile.first), tile.rows * scales_.cols(), scales.data());
    const auto rounded = round_to_tables({weight_.row(tile.first), tile.rows, weight_.cols, weight_.stride}, layout_, scales, {});
    Matrix<float> values(tile.rows, weight_.cols);
    dequantize(rounded, layout_, 0, values);
    load_tile(values, 0, system_.input_at(), error);
    for (std::size_t i = 0; i < error.rows() * error.cols(); ++i) error.data()[i] = tile.target.data()[i] - error.data()[i];
    for (const double v : estimate_objective(system_, error)) tile.at_rounding += v;
  }

  void sum_up() {
    double error = 0, energy = 0;
    report_.objective_rounding = report_.objective_greedy = 0;
    if (!tiles_[0].at_descent.empty()) report_.objective_descent = 0;
    for (const Tile& tile : tiles_) {
      report_.objective_rounding += tile.at_rounding;
      for (const double v : tile.at_walk) report_.objective_greedy += v;
      for (const double v : tile.at_descent) report_.objective_descent += v;
      error += tile.error;
      energy += tile.energy;
    }
    report_.relative_error = energy > 0 ? error / energy : 0;
  }

  TableTensor collect() const {
    TableTensor tensor{Matrix<std::uint8_t>(weight_.rows, weight_.cols),
                       Matrix<std::uint8_t>(weight_.rows, layout_.blocks(weight_.cols)), scales_};
    for (const Tile& tile : tiles_) {
      const TableTile grid = grid_of(tile);
      for (const BlockPlace& block : grid.blocks()) {
        for (std::size_t r = 0; r < tile.rows; ++r) {
          const std::uint8_t selector = grid.scale(block)[r] == 0 ? 0 : tile.choice.selectors(block.index, r);
          tensor.selectors(tile.first + r, block.index) = selector;
          const Table& table = layout_.tables[selector];
          for (std::size_t p = block.begin; p < block.end; ++p) {
            const auto entry = std::lower_bound(table.begin(), table.end(), tile.choice.entries(p, r));
            tensor.codes(tile.first + r, system_.input_at()[p]) =
                grid.scale(block)[r] == 0 ? std::uint8_t{0} : static_cast<std::uint8_t>(entry - table.begin());
          }
        }
      }
    }
    return tensor;
  }

  const LayerSystem& system_;
  MatrixView<const float> weight_;
  const TableLayout& layout_;
  Matrix<float> by_input_;  // targets
  Matrix<std::int32_t> scales_;
  std::vector<Tile> tiles_;
  LayerReport report_;
};

}  // namespace

TableSolution solve_table_layer(const LayerSystem& system, MatrixView<const float> weight, const TableLayout& layout,
                                const SolveOptions& options) {
  NEAP_CHECK(weight.rows > 0 && weight.cols == system.inputs() && system.options().block == layout.block);
  require_finite(weight);
  return TableSolver(system, weight, layout).solve(options);
}

}  // namespace neap
