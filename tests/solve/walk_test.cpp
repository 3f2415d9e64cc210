#include "solve/walk.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "solve/klein.h"
#include "solve/problem.h"

namespace neap {
namespace {

const SolveOptions kGreedy{.paths = 0, .descent_sweeps = 0};

TEST(Walk, BabaiEqualsRoundingWhenGramIsDiagonal) {
  const Problem problem(9, 37, 1);
  Matrix<float> gram(37, 37);
  for (std::size_t i = 0; i < 37; ++i) gram(i, i) = problem.gram(i, i);
  for (const bool symmetric : {false, true}) {
    const GroupLayout layout{3, 8, symmetric, DType::bf16};
    const LayerSystem system(gram, {}, {.target_mix = 1});
    const Grid grid = make_grid(problem.weight, layout, GridSearch::weighted);
    const auto solved = solve_on_grid(system, problem.weight, grid, kGreedy, 1);
    EXPECT_EQ(solved.tensor, round_to_grid(problem.weight, grid));
    EXPECT_EQ(solved.report.objective_greedy, solved.report.objective_rounding);
  }
}

// Written once more, one coordinate at a time, in fp64, from the definition of the conditional centre:
// the minimum over the free coordinates of the objective, given the decided ones.
QuantizedTensor slow_babai(const Problem& problem, const LayerSystem& system, const Grid& grid, double mu) {
  const std::size_t n = problem.gram.rows(), rows = problem.weight.rows();
  QuantizedTensor out{grid.layout, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(n), {}, {}, {}};
  out.codes.resize(rows * n);
  out.scales.assign(grid.scales.data(), grid.scales.data() + rows * grid.scales.cols());
  out.zeros.assign(grid.zeros.data(), grid.zeros.data() + rows * grid.scales.cols());
  const Matrix<double> a = damped(problem.gram, system.report().damping);
  for (std::size_t r = 0; r < rows; ++r) {
    const std::vector<double> target = exact_target(problem, r, mu, system.report().damping);
    std::vector<double> error(n);  // of decided inputs
    for (std::size_t p = n; p-- > 0;) {
      // Free: positions 0 .. p. Solve A_ff x = -A_fd e.
      Matrix<double> free(p + 1, p + 1);
      std::vector<double> b(p + 1);
      for (std::size_t i = 0; i <= p; ++i) {
        for (std::size_t j = 0; j <= p; ++j) free(i, j) = a(system.input_at()[i], system.input_at()[j]);
        for (std::size_t j = p + 1; j < n; ++j) {
          b[i] -= a(system.input_at()[i], system.input_at()[j]) * error[system.input_at()[j]];
        }
      }
      const std::size_t input = system.input_at()[p], g = input / grid.group_width();
      const double centre = target[input] + solve_linear(free, b)[p];
      const double code = std::clamp(std::nearbyint(centre / grid.scales(r, g) + grid.zeros(r, g)), 0.0,
                                     static_cast<double>(grid.highest()));
      out.codes[r * n + input] = static_cast<std::uint8_t>(code);
      error[input] = grid.scales(r, g) * (code - grid.zeros(r, g)) - target[input];
    }
  }
  return out;
}

class WalkInOrder : public testing::TestWithParam<Order> {};

// 70 inputs: across a block border, with a last block and a last group that are shorter.
TEST_P(WalkInOrder, IsTheConditionalMinimumAtEveryStepAndKeepsTheGroups) {
  const Problem problem(4, 70, 2);
  const LayerSystem system(problem.gram, problem.drift, {.order = GetParam()});
  const Grid grid = make_grid(problem.weight, {3, 16, false, DType::bf16}, GridSearch::range);
  const auto solved = solve_on_grid(system, problem.weight, grid, kGreedy, 1);
  const auto expected = slow_babai(problem, system, grid, system.options().target_mix);
  EXPECT_EQ(solved.tensor.codes, expected.codes);
  EXPECT_EQ(solved.tensor.scales, expected.scales);
}

INSTANTIATE_TEST_SUITE_P(EveryOrder, WalkInOrder,
                         testing::Values(Order::last_to_first, Order::first_to_last,
                                         Order::gram_diagonal));

TEST(Walk, FindsTheWeightsThatLieOnTheGrid) {
  Problem problem(6, 50, 3);
  const GroupLayout layout{4, 10, false, DType::bf16};
  const Grid grid = make_grid(problem.weight, layout, GridSearch::range);
  const QuantizedTensor rounded = round_to_grid(problem.weight, grid);
  for (std::size_t r = 0; r < 6; ++r) {
    for (std::size_t c = 0; c < 50; ++c) problem.weight(r, c) = static_cast<float>(weight_of(rounded, r, c));
  }
  const LayerSystem system(problem.gram, {}, {.target_mix = 1});
  const auto solved = solve_on_grid(system, problem.weight, grid, {}, 1);
  EXPECT_EQ(solved.tensor.codes, rounded.codes);
  EXPECT_EQ(solved.report.objective_descent, 0);
}

TEST(Walk, PathsZeroIsTheGreedyWalk) {
  const Problem problem(20, 48, 4);
  const LayerSystem system(problem.gram, problem.drift, {});
  const GroupLayout layout{3, 16, false, DType::bf16};
  const auto alone = solve_layer(system, problem.weight, layout, kGreedy, 1);
  const auto sampled = solve_layer(system, problem.weight, layout, {.paths = 4, .descent_sweeps = 0}, 1);
  EXPECT_NEAR(alone.report.objective_greedy, sampled.report.objective_greedy,
              1e-5 * alone.report.objective_greedy);
  EXPECT_LT(alone.report.objective_paths, 0);  // did not run
  EXPECT_EQ(alone.report.rows_won, std::vector<std::int64_t>{20});
}

TEST(Walk, BestOfPathsIsNeverWorseThanGreedyRowByRow) {
  const Problem problem(40, 33, 5);
  const LayerSystem system(problem.gram, problem.drift, {});
  const GroupLayout layout{2, 11, true, DType::bf16};
  const auto greedy = solve_layer(system, problem.weight, layout, kGreedy, 1);
  std::int64_t better = 0;
  for (const std::uint64_t key : {1, 2, 3}) {
    const auto best = solve_layer(system, problem.weight, layout, {.paths = 5, .descent_sweeps = 0}, key);
    for (std::size_t r = 0; r < 40; ++r) {
      const double before = exact_objective(problem, system, greedy.tensor, r, system.options().target_mix);
      const double after = exact_objective(problem, system, best.tensor, r, system.options().target_mix);
      EXPECT_LE(after, before);
      better += after < before;
    }
    EXPECT_EQ(std::accumulate(best.report.rows_won.begin(), best.report.rows_won.end(), 0), 40);
  }
  EXPECT_GT(better, 0);  // or the test would say nothing
}

TEST(Walk, ReportsTheCoordinatesThatPathsDrewDifferently) {
  const Problem problem(16, 40, 6);
  const LayerSystem system(problem.gram, {}, {.target_mix = 1});
  const auto solved = solve_layer(system, problem.weight, {3, 8, false, DType::bf16}, {.paths = 3}, 9);
  ASSERT_EQ(solved.report.coordinates_sampled.size(), 3u);
  for (const std::int64_t differ : solved.report.coordinates_sampled) {
    EXPECT_GT(differ, 0);
    EXPECT_LT(differ, 16 * 40);
  }
}

// With one path rho is infinite, the distribution a point: Klein's walk is Babai's.
TEST(Walk, ASinglePathDrawsNothing) {
  const Problem problem(16, 40, 6);
  const LayerSystem system(problem.gram, {}, {.target_mix = 1});
  const auto solved = solve_layer(system, problem.weight, {3, 8, false, DType::bf16}, {.paths = 1}, 9);
  EXPECT_EQ(solved.report.coordinates_sampled, std::vector<std::int64_t>{0});
  EXPECT_EQ(solved.report.rows_won, (std::vector<std::int64_t>{16, 0}));
}

}  // namespace
}  // namespace neap
