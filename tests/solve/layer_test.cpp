#include "solve/layer.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/parallel.h"
#include "neap/error.h"
#include "solve/problem.h"

namespace neap {
namespace {

TEST(Layer, ThreadCountDoesNotChangeTheBytes) {
  const Problem problem(150, 100, 1);
  std::vector<LayerSolution> found;
  for (const int threads : {1, 2, 3}) {
    const ThreadScope scope(threads);
    const LayerSystem system(problem.gram, problem.drift, {});
    found.push_back(solve_layer(system, problem.weight, {3, 32, false, DType::bf16}, {}, 7));
  }
  for (const auto& other : {found[1], found[2]}) {
    EXPECT_EQ(found[0].tensor, other.tensor);
    EXPECT_EQ(found[0].report.objective_descent, other.report.objective_descent);
    EXPECT_EQ(found[0].report.rows_won, other.report.rows_won);
    EXPECT_EQ(found[0].report.coordinates_sampled, other.report.coordinates_sampled);
  }
}

TEST(Layer, ReportedObjectivesAreThoseOfTheDefinition) {
  const Problem problem(5, 70, 2);
  const LayerSystem system(problem.gram, problem.drift, {});
  const GroupLayout layout{3, 16, false, DType::bf16};
  const Grid grid = make_grid(problem.weight, layout, GridSearch::weighted);
  const auto solved = solve_on_grid(system, problem.weight, grid, {}, 1);
  double end = 0, rounding = 0, error = 0, energy = 0;
  const auto rounded = round_to_grid(problem.weight, grid);
  const Matrix<double> h = damped(problem.gram, 0);
  for (std::size_t r = 0; r < 5; ++r) {
    end += exact_objective(problem, system, solved.tensor, r, system.options().target_mix);
    rounding += exact_objective(problem, system, rounded, r, system.options().target_mix);
    std::vector<double> e(70), w(70);
    for (std::size_t c = 0; c < 70; ++c) {
      w[c] = problem.weight(r, c);
      e[c] = weight_of(solved.tensor, r, c) - w[c];
    }
    error += exact_objective(h, e);
    energy += exact_objective(h, w);
  }
  EXPECT_NEAR(solved.report.objective_descent, end, 1e-5 * end);
  EXPECT_NEAR(solved.report.objective_rounding, rounding, 1e-5 * rounding);
  EXPECT_NEAR(solved.report.relative_error, error / energy, 1e-5 * error / energy);
}

TEST(Layer, ObjectivesFallFromStageToStage) {
  const Problem problem(60, 96, 3);
  const LayerSystem system(problem.gram, problem.drift, {});
  const auto report = solve_layer(system, problem.weight, {3, 32, true, DType::bf16}, {}, 1).report;
  EXPECT_LE(report.objective_paths, report.objective_greedy);
  EXPECT_LE(report.objective_descent, report.objective_paths);
  EXPECT_LT(report.objective_descent, report.objective_rounding);
}

struct Odd {
  std::size_t rows, cols;
  std::int64_t group;
};

class OddShapes : public testing::TestWithParam<Odd> {};

TEST_P(OddShapes, AreSolvedAndFallFromStageToStage) {
  const auto [rows, cols, group] = GetParam();
  const Problem problem(rows, cols, 4);
  const LayerSystem system(problem.gram, problem.drift, {});
  for (const bool symmetric : {false, true}) {
    const GroupLayout layout{4, group, symmetric, DType::bf16};
    const auto solved = solve_layer(system, problem.weight, layout, {}, 1);
    const std::size_t width = group == 0 ? cols : std::min<std::size_t>(group, cols);
    EXPECT_EQ(solved.tensor.scales.size(), rows * ((cols + width - 1) / width));
    EXPECT_EQ(solved.tensor.zeros.size(), symmetric ? 0 : solved.tensor.scales.size());
    EXPECT_EQ(solved.tensor.codes.size(), rows * cols);
    for (const std::uint8_t code : solved.tensor.codes) EXPECT_LT(code, 16);
    EXPECT_LE(solved.report.objective_paths, solved.report.objective_greedy);
    EXPECT_LE(solved.report.objective_descent, solved.report.objective_paths);
  }
}

INSTANTIATE_TEST_SUITE_P(OneRowOneInputWholeRowsShortLastGroups, OddShapes,
                         testing::Values(Odd{1, 40, 16}, Odd{5, 1, 1}, Odd{1, 1, 0}, Odd{3, 65, 0},
                                         Odd{65, 63, 64}, Odd{17, 100, 33}, Odd{2, 7, 100}));

TEST(Layer, DeadInputsAreRoundedAndHarmNothing) {
  Problem problem(8, 40, 5);
  for (const std::size_t dead : {0, 13, 39}) {
    for (std::size_t i = 0; i < 40; ++i) {
      problem.gram(dead, i) = problem.gram(i, dead) = 0;
      problem.drift(dead, i) = 0;  // X~ is 0 there, X need not be
    }
  }
  const LayerSystem system(problem.gram, problem.drift, {});
  EXPECT_EQ(system.report().dead_inputs, 3);
  const GroupLayout layout{3, 10, false, DType::bf16};
  const Grid grid = make_grid(problem.weight, layout, GridSearch::weighted);
  const auto solved = solve_on_grid(system, problem.weight, grid, {}, 1);
  const auto rounded = round_to_grid(problem.weight, grid);
  for (std::size_t r = 0; r < 8; ++r) {
    for (const std::size_t dead : {0, 13, 39}) {
      EXPECT_EQ(solved.tensor.codes[r * 40 + dead], rounded.codes[r * 40 + dead]);
    }
  }
}

TEST(Layer, NamesTheWeightThatIsNotFinite) {
  Problem problem(4, 10, 6);
  const LayerSystem system(problem.gram, {}, {.target_mix = 1});
  problem.weight(2, 7) = std::numeric_limits<float>::quiet_NaN();
  try {
    solve_layer(system, problem.weight, {4, 0, true, DType::bf16}, {}, 1);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::data);
    EXPECT_NE(std::string(e.what()).find("row 2, column 7"), std::string::npos) << e.what();
  }
}

TEST(Layer, RefusesOptionsOutOfRange) {
  const Problem problem(4, 10, 6);
  const LayerSystem system(problem.gram, {}, {.target_mix = 1});
  const GroupLayout layout{4, 0, true, DType::bf16};
  EXPECT_THROW(solve_layer(system, problem.weight, layout, {.paths = -1}, 1), Error);
  EXPECT_THROW(solve_layer(system, problem.weight, layout, {.descent_sweeps = -1}, 1), Error);
}

}  // namespace
}  // namespace neap
