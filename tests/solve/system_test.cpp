#include "solve/system.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "neap/error.h"
#include "solve/problem.h"

namespace neap {
namespace {

Matrix<float> diagonal(std::vector<float> values) {
  Matrix<float> m(values.size(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) m(i, i) = values[i];
  return m;
}

void expect_exact_targets(const Problem& problem) {
  for (const double mu : {0.0, 0.5, 0.9}) {
    for (const Order order : {Order::last_to_first, Order::first_to_last, Order::gram_diagonal}) {
      const LayerSystem system(problem.gram, problem.drift, {.target_mix = mu, .order = order});
      Matrix<float> tile(70, 3);
      load_tile(problem.weight, 0, system.input_at(), tile);
      system.to_target(tile, 0);
      const Matrix<double> a = damped(problem.gram, system.report().damping);
      for (std::size_t r = 0; r < 3; ++r) {
        std::vector<double> exact = exact_target(problem, r, mu, system.report().damping), error = exact;
        for (std::size_t p = 0; p < 70; ++p) error[system.input_at()[p]] -= tile(p, r);
        // In the metric of the objective: what a wrong target costs.
        EXPECT_LT(exact_objective(a, error), 1e-9 * exact_objective(a, exact));
      }
    }
  }
}

TEST(System, TargetSolvesTheJointNormalEquations) { expect_exact_targets(Problem(3, 70, 5)); }

TEST(System, TargetMakesUpForTheResidualStreamToo) { expect_exact_targets(Problem(3, 70, 5, true)); }

TEST(System, ATileOfLaterRowsTakesItsOwnColumnsOfTheDrift) {
  const Problem problem(3, 30, 8, true);
  const LayerSystem system(problem.gram, problem.drift, {.target_mix = 0.3});
  Matrix<float> all(30, 3), last(30, 1);
  load_tile(problem.weight, 0, system.input_at(), all);
  load_tile(problem.weight, 2, system.input_at(), last);
  system.to_target(all, 0);
  system.to_target(last, 2);
  for (std::size_t p = 0; p < 30; ++p) EXPECT_NEAR(all(p, 2), last(p, 0), 1e-5f);
}

TEST(System, AtMixOneTheTargetIsTheWeight) {
  const Problem problem(2, 20, 6);
  const LayerSystem system(problem.gram, problem.drift, {.target_mix = 1});
  Matrix<float> tile(20, 2), before;
  load_tile(problem.weight, 0, system.input_at(), tile);
  before = tile;
  system.to_target(tile, 0);
  for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(tile.data()[i], before.data()[i]);
}

TEST(System, FactorTimesItselfIsTheMetricByPosition) {
  const Problem problem(1, 60, 7);
  const LayerSystem system(problem.gram, {}, {.target_mix = 1});
  const auto metric = system.metric(), factor = system.factor();
  const auto& at = system.input_at();
  for (std::size_t i = 0; i < 60; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      const double a = problem.gram(at[i], at[j]) + (i == j ? system.report().damping : 0);
      ASSERT_FLOAT_EQ(metric(i, j), static_cast<float>(a));
      ASSERT_EQ(metric(j, i), metric(i, j));
      double sum = 0;  // (N' diag(pivots) N)_ij
      for (std::size_t k = 0; k <= j; ++k) {
        sum += system.pivots()[k] * (k == i ? 1.0 : factor(k, i)) * (k == j ? 1.0 : factor(k, j));
      }
      const double size = std::sqrt(double(metric(i, i)) * metric(j, j));
      ASSERT_NEAR(sum, a, 61 * 0x1p-22 * size);
    }
  }
}

TEST(System, ConditionalGramIsTheInverseOfTheInversesDiagonal) {
  const Problem problem(1, 150, 8);  // across a tile of columns
  const LayerSystem system(problem.gram, {}, {.target_mix = 1});
  const Matrix<double> a = damped(problem.gram, system.report().damping);
  for (const std::size_t i : {0, 1, 77, 149}) {
    std::vector<double> unit(150);
    unit[i] = 1;
    const double exact = 1 / solve_linear(a, unit)[i];
    EXPECT_NEAR(system.conditional_gram()[i], exact, 1e-3 * exact);
  }
}

TEST(System, ImportanceIsTheMeanOfWhatAnErrorCostsWithAndWithoutHelp) {
  const Problem problem(1, 60, 8);
  const LayerSystem system(problem.gram, {}, {.target_mix = 1});
  const std::vector<float> importance = system.importance();
  for (std::size_t p = 0; p < 60; ++p) {
    const std::size_t i = system.input_at()[p];
    const float alone = system.metric()(p, p), helped = system.conditional_gram()[i];
    EXPECT_LT(helped, alone);
    EXPECT_NEAR(std::log(importance[i]), (std::log(alone) + std::log(helped)) / 2, 1e-5);
  }
}

TEST(System, OrdersDecideTheInputTheyPromiseFirst) {
  const Matrix<float> gram = diagonal({3, 1, 4, 1, 5, 9, 2, 6});
  const auto order = [&](Order o) { return LayerSystem(gram, {}, {.target_mix = 1, .order = o}).input_at(); };
  EXPECT_EQ(order(Order::last_to_first), (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(order(Order::first_to_last), (std::vector<std::uint32_t>{7, 6, 5, 4, 3, 2, 1, 0}));
  EXPECT_EQ(order(Order::gram_diagonal), (std::vector<std::uint32_t>{1, 3, 6, 0, 2, 4, 7, 5}));
}

TEST(System, CountsDeadAndNearDeadInputs) {
  // Mean diagonal 2.002 / 5, so the damping at ridge 0.01 is 0.004.
  const LayerSystem system(diagonal({1, 0, 1, 0.002f, 0}), {}, {.target_mix = 1, .ridge = 0.01});
  EXPECT_EQ(system.report().dead_inputs, 2);
  EXPECT_EQ(system.report().near_dead_inputs, 1);
  EXPECT_EQ(std::count(system.live().begin(), system.live().end(), 1), 2);
  EXPECT_EQ(system.report().attempts, 1);
  EXPECT_NEAR(system.report().damping, 0.01 * 2.002 / 5, 1e-9);
}

TEST(System, ASingularGramWithoutRidgeIsDampedAndSaysSo) {
  Matrix<float> gram(40, 40);
  for (std::size_t i = 0; i < 1600; ++i) gram.data()[i] = 2;  // rank 1
  const LayerSystem system(gram, {}, {.target_mix = 1, .ridge = 0});
  EXPECT_GT(system.report().attempts, 1);
  EXPECT_GT(system.report().relative_damping, 0);
  EXPECT_LT(system.report().relative_damping, 1e-2);
  for (const float pivot : system.pivots()) EXPECT_GT(pivot, 0);
}

TEST(System, InputsThatAreAllDeadLeaveThePlainMetric) {
  const LayerSystem system(Matrix<float>(5, 5), {}, {.target_mix = 1});
  EXPECT_EQ(system.report().dead_inputs, 5);
  EXPECT_EQ(system.report().damping, 1);
  EXPECT_EQ(system.report().relative_damping, 0);
}

TEST(System, RefusesNumbersThatAreNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Matrix<float> good = diagonal({1, 1, 1}), broken = good;
    broken(2, 1) = bad;
    EXPECT_THROW(LayerSystem(broken, {}, {.target_mix = 1}), Error);
    EXPECT_THROW(LayerSystem(good, broken, {}), Error);
  }
}

TEST(System, RefusesOptionsOutOfRange) {
  const Matrix<float> gram = diagonal({1, 1});
  EXPECT_THROW(LayerSystem(gram, {}, {.target_mix = 1.5}), Error);
  EXPECT_THROW(LayerSystem(gram, {}, {.target_mix = 1, .ridge = -0.1}), Error);
  EXPECT_THROW(LayerSystem(gram, {}, {.target_mix = 1, .masked_target = true}), Error);
}

}  // namespace
}  // namespace neap
