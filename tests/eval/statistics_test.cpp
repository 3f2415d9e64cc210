#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <vector>

namespace neap {
namespace {

TEST(Percentile, IsLinearBetweenOrderStatistics) {
  const std::vector<float> sorted = {1, 2, 4, 8, 16};  // numpy.percentile gives the same
  EXPECT_DOUBLE_EQ(percentile(sorted, 0.5), 4);
  EXPECT_DOUBLE_EQ(percentile(sorted, 0.9), 12.8);
  EXPECT_DOUBLE_EQ(percentile(sorted, 0), 1);
  EXPECT_DOUBLE_EQ(percentile(sorted, 1), 16);
  EXPECT_DOUBLE_EQ(percentile(std::vector<float>{3}, 0.99), 3);
}

TEST(Accumulator, KeepsItsDigitsFarFromZero) {
  Accumulator accumulator;
  for (const double x : {4.0, 7.0, 13.0, 16.0}) accumulator.add(1e9 + x);
  const Estimate estimate = accumulator.estimate();
  EXPECT_DOUBLE_EQ(estimate.mean, 1e9 + 10);
  EXPECT_NEAR(estimate.error, std::sqrt(30.0 / 4), 1e-9);  // unbiased variance 30, four values
}

TEST(Accumulator, OneValueHasNoError) {
  Accumulator accumulator;
  accumulator.add(5);
  EXPECT_EQ(accumulator.estimate().error, 0);
}

}  // namespace
}  // namespace neap
