#include "eval/softmax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace neap {
namespace {

// Odd sizes around the chunk length, and those of real vocabularies.
const std::size_t kSizes[] = {1, 2, 15, 511, 512, 513, 1025, 32000, 49152, 151936};

std::vector<float> random_row(std::size_t count, unsigned seed, float spread) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(1, spread);
  std::vector<float> row(count);
  for (float& x : row) x = normal(generator);
  return row;
}

double log_sum_fp64(const std::vector<float>& row) {
  const double peak = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float x : row) sum += std::exp(x - peak);
  return peak + std::log(sum);
}

double kl_fp64(const std::vector<float>& p, const std::vector<float>& q) {
  const double lp = log_sum_fp64(p), lq = log_sum_fp64(q);
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) sum += std::exp(p[i] - lp) * ((p[i] - lp) - (q[i] - lq));
  return sum;
}

TEST(SoftmaxRow, LogSumEqualsTheFp64Sum) {
  for (const std::size_t size : kSizes) {
    for (const float spread : {0.f, 0.1f, 3.f, 40.f}) {
      const auto row = random_row(size, 1, spread);
      // 512 fp32 additions of positive terms, each exp within 2e-7.
      EXPECT_NEAR(softmax_row(row.data(), size).log_sum, log_sum_fp64(row), 1e-6)
          << size << " " << spread;
    }
  }
}

TEST(SoftmaxRow, TopIsTheFirstOfEqualPeaks) {
  for (const std::size_t size : {std::size_t{513}, std::size_t{5000}}) {
    auto row = random_row(size, 2, 1);
    for (const std::size_t first : {std::size_t{0}, std::size_t{7}, std::size_t{512}}) {
      auto peaked = row;
      peaked[first] = peaked[size - 1] = 100;
      EXPECT_EQ(softmax_row(peaked.data(), size).top, first);
    }
  }
}

TEST(SoftmaxRow, ANanOrInfiniteLogitShowsInTheSum) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    for (const std::size_t place : {std::size_t{0}, std::size_t{600}, std::size_t{999}}) {
      auto row = random_row(1000, 3, 1);
      row[place] = bad;
      EXPECT_FALSE(std::isfinite(softmax_row(row.data(), row.size()).log_sum)) << bad << place;
    }
  }
}

TEST(KlDivergence, EqualsTheFp64Sum) {
  for (const std::size_t size : kSizes) {
    for (const float difference : {1e-2f, 0.1f, 3.f}) {
      const auto p = random_row(size, 4, 3);
      auto q = p;
      const auto noise = random_row(size, 5, difference);
      for (std::size_t i = 0; i < size; ++i) q[i] += noise[i];
      const double expected = kl_fp64(p, q);
      EXPECT_NEAR(kl_divergence(p.data(), softmax_row(p.data(), size), q.data(),
                                softmax_row(q.data(), size), size),
                  expected, 2e-5 * expected)
          << size << " " << difference;
    }
  }
}

TEST(KlDivergence, OfEqualRowsIsExactlyZero) {
  const auto p = random_row(49152, 6, 4);
  const SoftmaxRow row = softmax_row(p.data(), p.size());
  EXPECT_EQ(kl_divergence(p.data(), row, p.data(), row, p.size()), 0);
}

}  // namespace
}  // namespace neap
