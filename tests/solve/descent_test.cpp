#include "solve/descent.h"

#include <gtest/gtest.h>

#include <limits>

#include "solve/problem.h"

namespace neap {
namespace {

// The least objective over all points of the grid, by trying every one.
double exhaustive_minimum(const Problem& problem, const LayerSystem& system, const Grid& grid,
                          std::size_t row, double mu) {
  const std::size_t n = problem.gram.rows();
  const std::vector<double> target = exact_target(problem, row, mu, system.report().damping);
  const Matrix<double> a = damped(problem.gram, system.report().damping);
  std::vector<int> codes(n, 0);
  double least = std::numeric_limits<double>::infinity();
  for (;;) {
    std::vector<double> error(n);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t g = i / grid.group_width();
      error[i] = grid.scales(row, g) * (codes[i] - grid.zeros(row, g)) - target[i];
    }
    least = std::min(least, exact_objective(a, error));
    std::size_t i = 0;
    while (i < n && codes[i] == grid.highest()) codes[i++] = 0;
    if (i == n) return least;
    ++codes[i];
  }
}

TEST(Descent, NeverGoesBelowTheExhaustiveMinimumAndOftenReachesIt) {
  int reached = 0;
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const Problem problem(4, 6, 50 + 3 * seed);
    const LayerSystem system(problem.gram, problem.drift, {});
    const Grid grid = make_grid(problem.weight, {2, 3, false, DType::bf16}, GridSearch::range);
    const auto solved = solve_on_grid(system, problem.weight, grid, {}, seed);
    for (std::size_t r = 0; r < 4; ++r) {
      const double best = exhaustive_minimum(problem, system, grid, r, system.options().target_mix);
      const double found = exact_objective(problem, system, solved.tensor, r, system.options().target_mix);
      EXPECT_GE(found, best * (1 - 1e-9));
      reached += found <= best * (1 + 1e-4);
    }
  }
  EXPECT_GE(reached, 18);  // of 24
}

TEST(Descent, EndsWhereNoSingleChangeOfACodeGains) {
  const Problem problem(7, 70, 8);
  const LayerSystem system(problem.gram, problem.drift, {});
  const Grid grid = make_grid(problem.weight, {3, 16, false, DType::bf16}, GridSearch::range);
  auto solved = solve_on_grid(system, problem.weight, grid, {.paths = 0, .descent_sweeps = 100}, 1);
  EXPECT_EQ(solved.report.unsettled_rows, 0);
  for (std::size_t r = 0; r < 7; ++r) {
    const double end = exact_objective(problem, system, solved.tensor, r, system.options().target_mix);
    for (std::size_t c = 0; c < 70; ++c) {
      std::uint8_t& code = solved.tensor.codes[r * 70 + c];
      const std::uint8_t kept = code;
      for (int other = 0; other <= 7; ++other) {
        code = static_cast<std::uint8_t>(other);
        EXPECT_GE(exact_objective(problem, system, solved.tensor, r, system.options().target_mix), end * (1 - 1e-4));
      }
      code = kept;
    }
  }
}

TEST(Descent, NeverRaisesTheObjectiveOfAnyRow) {
  for (const double ridge : {1e-2, 1e-7}) {  // the second all but singular
    Problem problem(64, 90, 9);
    const Matrix<float> few = random_inputs(30, 90, 10);  // rank 30
    problem.gram = transposed_product(few, few);
    const LayerSystem system(problem.gram, {}, {.target_mix = 1, .ridge = ridge});
    const GroupLayout layout{2, 32, false, DType::bf16};
    const auto start = solve_layer(system, problem.weight, layout, {.descent_sweeps = 0}, 1);
    const auto end = solve_layer(system, problem.weight, layout, {.descent_sweeps = 50}, 1);
    EXPECT_GT(end.report.moves, 0);
    EXPECT_LE(end.report.objective_descent, end.report.objective_paths);
    EXPECT_EQ(end.report.objective_paths, start.report.objective_paths);
    for (std::size_t r = 0; r < 64; ++r) {
      EXPECT_LE(exact_objective(problem, system, end.tensor, r, 1.0),
                exact_objective(problem, system, start.tensor, r, 1.0) * (1 + 1e-6));
    }
  }
}

TEST(Descent, SweepsAreBoundedAndTheRestIsReported) {
  const Problem problem(64, 90, 11);
  const LayerSystem system(problem.gram, problem.drift, {});
  const GroupLayout layout{2, 32, false, DType::bf16};
  const auto solved = solve_layer(system, problem.weight, layout, {.paths = 0, .descent_sweeps = 1}, 1);
  EXPECT_EQ(solved.report.sweeps, 1);
  EXPECT_GT(solved.report.unsettled_rows, 0);
}

}  // namespace
}  // namespace neap
