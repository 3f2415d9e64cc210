#include "solve/refit.h"

#include <gtest/gtest.h>

#include "base/half.h"
#include "base/parallel.h"
#include "solve/problem.h"

namespace neap {
namespace {

struct Form {
  GridForm form;
  bool symmetric;
};
constexpr Form kForms[] = {{GridForm::zero_points, true},
                           {GridForm::zero_points, false},
                           {GridForm::signed_half, false},
                           {GridForm::half_minimum, false}};
constexpr Form kTwoLevels[] = {{GridForm::super_signed, false}, {GridForm::super_minimum, false}};

double objective_of(const Problem& problem, const LayerSystem& system, const GridSolution& s, std::size_t row) {
  std::vector<double> error = exact_target(problem, row, system.options().target_mix, system.report().damping);
  for (std::size_t c = 0; c < error.size(); ++c) {
    const std::size_t g = c / s.grid.group_width();
    error[c] = s.grid.scales(row, g) * (s.codes[row * error.size() + c] - double{s.grid.zeros(row, g)}) - error[c];
  }
  return exact_objective(damped(problem.gram, system.report().damping), error);
}

TEST(Refit, RefitNeverRaisesTheObjectiveOfARowAndMostlyLowersIt) {
  for (const Form& form : kForms) {
    for (const std::int64_t group : {0, 7, 16}) {
      const Problem problem(21, 50, 11 + static_cast<std::uint64_t>(group));
      const LayerSystem system(problem.gram, problem.drift, {});
      const GroupLayout layout{3, group, form.symmetric, DType::f16};
      const auto solve = [&](int refits) {
        return solve_layer_in_form(system, problem.weight, layout, form.form, {.paths = 1, .refits = refits}, 5);
      };
      const GridSolution before = solve(0), after = solve(3);
      int lower = 0;
      for (std::size_t r = 0; r < 21; ++r) {
        const double was = objective_of(problem, system, before, r), is = objective_of(problem, system, after, r);
        EXPECT_LE(is, was * (1 + 1e-9));
        lower += is < 0.999 * was;
      }
      EXPECT_GT(lower, 10);
      EXPECT_EQ(before.report.objective_refit, -1);
      EXPECT_LE(after.report.objective_refit, after.report.objective_descent);
      EXPECT_GT(after.report.refitted, 0);
    }
  }
}

TEST(Refit, WithTwoLevelsTheObjectiveFallsAndNumbersStayThoseOfTheForm) {
  for (const Form& form : kTwoLevels) {
    for (const int bits : {2, 3, 4}) {
      const Problem problem(5, 256, 7 + static_cast<std::uint64_t>(bits));
      const LayerSystem system(problem.gram, problem.drift, {});
      const GroupLayout layout{bits, 16, false, DType::f16};
      const auto solve = [&](int refits) {
        return solve_layer_in_form(system, problem.weight, layout, form.form, {.paths = 0, .refits = refits}, 5);
      };
      const GridSolution before = solve(0), after = solve(2);
      EXPECT_LT(after.report.objective_refit, 0.98 * before.report.objective_descent);
      EXPECT_GT(after.report.refitted, 0);
      Grid again = after.grid;
      for (std::size_t r = 0; r < 5; ++r) {
        EXPECT_LE(objective_of(problem, system, after, r), objective_of(problem, system, before, r) * (1 + 1e-9));
        for (std::size_t g = 0; g < 16; ++g) {
          again.apply_levels(r, g);
          EXPECT_EQ(again.scales(r, g), after.grid.scales(r, g));
          EXPECT_EQ(again.zeros(r, g), after.grid.zeros(r, g));
        }
      }
    }
  }
}

// By brute force over every number that the file could hold near the best one.
TEST(Refit, OneGroupEndsAtTheBestStoredScaleOfItsCodes) {
  const Problem problem(6, 24, 3);
  const LayerSystem system(problem.gram, problem.drift, {});
  Grid grid = make_grid(problem.weight, {4, 0, false, DType::f16}, GridSearch::weighted, {}, GridForm::signed_half);
  GridSolution solution{grid, nearest_codes(problem.weight, grid), {}};
  Matrix<std::uint8_t> codes(24, 6);
  Matrix<float> target(24, 6);
  load_tile(problem.weight, 0, system.input_at(), target);
  system.to_target(target, 0);
  for (std::size_t p = 0; p < 24; ++p) {
    for (std::size_t r = 0; r < 6; ++r) codes(p, r) = solution.codes[r * 24 + system.input_at()[p]];
  }
  EXPECT_GT(refit_tile(system, solution.grid, 0, target, codes, 4), 0);
  for (std::size_t r = 0; r < 6; ++r) {
    const double found = objective_of(problem, system, solution, r);
    const float scale = solution.grid.scales(r, 0);
    for (int step = -200; step <= 200; ++step) {
      GridSolution other = solution;
      other.grid.scales(r, 0) = fp16_to_float(static_cast<Fp16>(float_to_fp16(scale) + step));
      EXPECT_GE(objective_of(problem, system, other, r), found * (1 - 1e-4));
    }
  }
}

TEST(Refit, ScalesStayNumbersOfTheirForm) {
  const Problem problem(9, 40, 4);
  const LayerSystem system(problem.gram, problem.drift, {});
  for (const Form& form : kForms) {
    const GroupLayout layout{4, 8, form.symmetric, DType::f16};
    const auto s = solve_layer_in_form(system, problem.weight, layout, form.form, {.refits = 2}, 1);
    for (std::size_t r = 0; r < 9; ++r) {
      for (std::size_t g = 0; g < 5; ++g) {
        const float scale = s.grid.scales(r, g), zero = s.grid.zeros(r, g);
        EXPECT_EQ(scale, form.form == GridForm::zero_points ? portable_scale(scale) : half_scale(scale));
        if (form.form == GridForm::half_minimum) {
          EXPECT_EQ(zero, -half_minimum(-zero * scale) / scale);
        } else if (form.form == GridForm::signed_half) {
          EXPECT_TRUE(zero == 7 || zero == 8);
        } else {
          EXPECT_TRUE(zero == std::nearbyint(zero) && zero >= 0 && zero <= 15 && (!form.symmetric || zero == 8));
        }
      }
    }
  }
}

TEST(Refit, BitsDoNotDependOnThreads) {
  const Problem problem(90, 40, 5);
  const LayerSystem system(problem.gram, problem.drift, {});
  const auto solve = [&](int threads) {
    const ThreadScope scope(threads);
    return solve_layer(system, problem.weight, {4, 8, false, DType::bf16}, {.refits = 2}, 1).tensor;
  };
  EXPECT_EQ(solve(1), solve(3));
}

}  // namespace
}  // namespace neap
