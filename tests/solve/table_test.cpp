#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "solve/problem.h"
#include "solve/table_layer.h"
#include "solve/table_walk.h"
#include "solve/walk.h"

namespace neap {
namespace {

Table sorted_table(std::uint64_t seed) {
  const Matrix<float> values = random_matrix(1, kTableEntries, seed);
  Table table;
  for (std::size_t e = 0; e < kTableEntries; ++e) table[e] = std::round(12 * values(0, e));
  std::sort(table.begin(), table.end());
  return table;
}

// Three tables, arrays of 8, blocks of 4, scales an eighth of an octave apart.
TableLayout small_layout() {
  TableLayout layout{8, 4, {sorted_table(1), sorted_table(2), sorted_table(3)}, {}, true};
  for (int k = 0; k < 120; ++k) layout.scales.push_back(1e-4f * std::exp2(static_cast<float>(k) / 8));
  return layout;
}

LayerSystem system_of(const Problem& problem, const TableLayout& layout) {
  return LayerSystem(problem.gram, problem.drift, {.block = layout.block});
}

double objective(const Problem& problem, const LayerSystem& system, const TableLayout& layout, const TableTensor& tensor,
                 std::size_t row) {
  Matrix<float> value(1, problem.weight.cols());
  dequantize(tensor, layout, row, value);
  std::vector<double> error = exact_target(problem, row, system.options().target_mix, system.report().damping);
  for (std::size_t c = 0; c < error.size(); ++c) error[c] = value(0, c) - error[c];
  return exact_objective(damped(problem.gram, system.report().damping), error);
}

TEST(Tables, RoundingTakesTheBestTableOfEveryBlock) {
  const TableLayout layout = small_layout();
  const Matrix<float> weight = random_matrix(5, 30, 7);
  const auto scales = search_scales(weight, layout, {});
  const TableTensor tensor = round_to_tables(weight, layout, scales, {});
  Matrix<float> value(5, 30);
  dequantize(tensor, layout, 0, value);
  for (std::size_t r = 0; r < 5; ++r) {
    for (std::size_t b = 0; b < layout.blocks(30); ++b) {
      double found = 0, least = std::numeric_limits<double>::infinity();
      const std::size_t end = std::min<std::size_t>(30, 4 * b + 4);
      const float scale = scale_value(layout, scales(r, b / 2));
      for (const Table& table : layout.tables) {
        double sum = 0;
        for (std::size_t c = 4 * b; c < end; ++c) {
          double nearest = std::numeric_limits<double>::infinity();
          for (const float e : table) nearest = std::min(nearest, std::abs(double{weight(r, c)} - double{scale} * e));
          sum += nearest * nearest;
        }
        least = std::min(least, sum);
      }
      for (std::size_t c = 4 * b; c < end; ++c) found += std::pow(double{weight(r, c)} - value(r, c), 2);
      EXPECT_NEAR(found, least, 1e-5 * least);
    }
  }
}

TEST(Tables, AnArrayOfZerosHasScaleZero) {
  const TableLayout layout = small_layout();
  Matrix<float> weight = random_matrix(1, 16, 3);
  std::fill_n(weight.row(0) + 8, 8, 0.0f);
  const auto scales = search_scales(weight, layout, {});
  EXPECT_NE(scales(0, 0), 0);
  EXPECT_EQ(scales(0, 1), 0);
  Matrix<float> value(1, 16);
  dequantize(round_to_tables(weight, layout, scales, {}), layout, 0, value);
  for (std::size_t c = 8; c < 16; ++c) EXPECT_EQ(value(0, c), 0);
}

// The walk as its definition has it, in fp64, one row.
std::vector<double> literal_walk(const LayerSystem& system, const TableLayout& layout, const std::vector<double>& scale_of,
                                 const std::vector<double>& target) {
  const std::size_t n = target.size();
  const auto& at = system.input_at();
  std::vector<double> error(n), value(n);
  for (std::size_t end = n; end > 0;) {
    std::size_t begin = end - 1;
    while (begin > 0 && at[begin - 1] / layout.block == at[end - 1] / layout.block) --begin;
    double least = std::numeric_limits<double>::infinity();
    std::vector<double> kept_error, kept_value;
    for (const Table& table : layout.tables) {
      std::vector<double> e = error, v = value;
      double score = 0;
      for (std::size_t p = end; p-- > begin;) {
        double centre = target[p];
        for (std::size_t q = p + 1; q < n; ++q) centre += double{system.factor()(p, q)} * e[q];
        double best = std::numeric_limits<double>::infinity();
        for (const float entry : table) {
          if (std::abs(centre - scale_of[at[p]] * entry) >= best) continue;
          best = std::abs(centre - scale_of[at[p]] * entry);
          v[p] = scale_of[at[p]] * entry;
        }
        e[p] = target[p] - v[p];
        score += system.pivots()[p] * best * best;
      }
      if (score >= least) continue;
      least = score;
      kept_error = e;
      kept_value = v;
    }
    error = kept_error;
    value = kept_value;
    end = begin;
  }
  return value;
}

TEST(Tables, WalkIsItsDefinition) {
  for (const std::size_t cols : {40u, 90u, 150u}) {
    const Problem problem(6, cols, 11 + cols);
    const TableLayout layout = small_layout();
    const LayerSystem system = system_of(problem, layout);
    const auto scales = search_scales(problem.weight, layout, {});
    const TableTile tile(layout, scales, 0, 6, system.input_at());
    Matrix<float> target(cols, 6), error(cols, 6);
    load_tile(problem.weight, 0, system.input_at(), target);
    system.to_target(target, 0);
    subtract_weights(tile, walk_tables(system, tile, target), target, error);
    std::size_t different = 0;
    for (std::size_t r = 0; r < 6; ++r) {
      std::vector<double> t(cols), scale_of(cols);
      for (std::size_t c = 0; c < cols; ++c) scale_of[c] = scale_value(layout, scales(r, c / layout.array));
      for (std::size_t p = 0; p < cols; ++p) t[p] = target(p, r);
      const std::vector<double> value = literal_walk(system, layout, scale_of, t);
      for (std::size_t p = 0; p < cols; ++p) different += std::abs(value[p] - (target(p, r) - error(p, r))) > 1e-5;
    }
    EXPECT_EQ(different, 0u) << cols;
  }
}

TEST(Tables, WalkEqualsRoundingWhenTheGramIsDiagonal) {
  Problem problem(4, 32, 5);
  for (std::size_t i = 0; i < 32; ++i) {
    for (std::size_t j = 0; j < 32; ++j) problem.gram(i, j) = i == j ? 2.0f : 0.0f;
  }
  const TableLayout layout = small_layout();
  const LayerSystem system(problem.gram, {}, {.target_mix = 1, .block = 4});
  const TableTensor found = solve_table_layer(system, problem.weight, layout, {.descent_sweeps = 8}).tensor;
  const auto conditional = system.conditional_gram();
  const auto scales = search_scales(problem.weight, layout, conditional);
  const TableTensor rounded = round_to_tables(problem.weight, layout, scales, conditional);
  Matrix<float> a(4, 32), b(4, 32);
  dequantize(found, layout, 0, a);
  dequantize(rounded, layout, 0, b);
  for (std::size_t i = 0; i < 128; ++i) EXPECT_EQ(a.data()[i], b.data()[i]) << i;
}

TEST(Tables, OneTableOfIntegersIsTheGreedyWalkOfIntegers) {
  const Problem problem(16, 70, 9);
  TableLayout layout{10, 10, {Table{}}, {}, false};
  for (int e = 0; e < 16; ++e) layout.tables[0][e] = static_cast<float>(e - 8);
  const LayerSystem system = system_of(problem, layout);
  const Grid grid = make_grid(problem.weight, {.bits = 4, .group = 10, .symmetric = true}, GridSearch::weighted);
  Matrix<std::int32_t> scales(16, 7);
  for (std::size_t r = 0; r < 16; ++r) {
    for (std::size_t g = 0; g < 7; ++g) layout.scales.push_back(grid.scales(r, g));
  }
  std::sort(layout.scales.begin(), layout.scales.end());
  for (std::size_t r = 0; r < 16; ++r) {
    for (std::size_t g = 0; g < 7; ++g) {
      const auto place = std::lower_bound(layout.scales.begin(), layout.scales.end(), grid.scales(r, g));
      scales(r, g) = static_cast<std::int32_t>(place - layout.scales.begin()) + 1;
    }
  }
  Matrix<float> target(70, 16);
  load_tile(problem.weight, 0, system.input_at(), target);
  const TableTile tile(layout, scales, 0, 16, system.input_at());
  const TableChoice tables = walk_tables(system, tile, target);
  const TileGrid integers(grid, 0, 16, system.input_at());
  const WalkResult walked = walk_tile(system, integers, target, {});
  for (std::size_t p = 0; p < 70; ++p) {
    for (std::size_t r = 0; r < 16; ++r) EXPECT_EQ(tables.entries(p, r) + 8, walked.codes(p, r)) << p << ' ' << r;
  }
}

TEST(Tables, DescentNeverRaisesTheObjectiveAndEndsWhereNoEntryImproves) {
  const TableLayout layout = small_layout();
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const Problem problem(5, 36, 20 + seed);
    const LayerSystem system = system_of(problem, layout);
    const TableTensor walked = solve_table_layer(system, problem.weight, layout, {.descent_sweeps = 0}).tensor;
    TableTensor settled = solve_table_layer(system, problem.weight, layout, {.descent_sweeps = 50}).tensor;
    for (std::size_t r = 0; r < 5; ++r) {
      const double end = objective(problem, system, layout, settled, r);
      EXPECT_LE(end, objective(problem, system, layout, walked, r) * (1 + 1e-6));
      for (std::size_t c = 0; c < 36; ++c) {
        const std::uint8_t kept = settled.codes(r, c);
        for (std::uint8_t code = 0; code < kTableEntries; ++code) {
          settled.codes(r, c) = code;
          EXPECT_GE(objective(problem, system, layout, settled, r), end * (1 - 1e-3));
        }
        settled.codes(r, c) = kept;
      }
    }
  }
}

TEST(Tables, TheReportsObjectiveIsThatOfTheTensor) {
  const TableLayout layout = small_layout();
  const Problem problem(7, 44, 31, true);
  const LayerSystem system = system_of(problem, layout);
  const TableSolution solution = solve_table_layer(system, problem.weight, layout, {});
  double sum = 0;
  for (std::size_t r = 0; r < 7; ++r) sum += objective(problem, system, layout, solution.tensor, r);
  EXPECT_NEAR(solution.report.objective_descent, sum, 1e-4 * sum);
  EXPECT_LE(solution.report.objective_descent, solution.report.objective_greedy);
  EXPECT_LT(solution.report.objective_greedy, solution.report.objective_rounding);
}

TEST(Tables, TheSameChoicesAtAnyThreadCount) {
  const TableLayout layout = small_layout();
  const Problem problem(50, 64, 41);
  std::vector<TableTensor> found;
  for (const int threads : {1, 3}) {
    const ThreadScope scope(threads);
    const LayerSystem system = system_of(problem, layout);
    found.push_back(solve_table_layer(system, problem.weight, layout, {}).tensor);
  }
  for (std::size_t i = 0; i < 50 * 64; ++i) ASSERT_EQ(found[0].codes.data()[i], found[1].codes.data()[i]);
}

TEST(Tables, BlocksStayTogetherInEveryOrder) {
  const Problem problem(1, 37, 51);
  for (const Order order : {Order::last_to_first, Order::first_to_last, Order::gram_diagonal}) {
    const LayerSystem system(problem.gram, {}, {.target_mix = 1, .order = order, .block = 8});
    std::vector<std::uint32_t> first;
    for (const std::uint32_t input : system.input_at()) {
      if (first.empty() || first.back() != input / 8) first.push_back(input / 8);
    }
    EXPECT_EQ(first.size(), 5u);
  }
}

}  // namespace
}  // namespace neap
