#include "solve/klein.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace neap {
namespace {

TEST(Klein, RhoIsTheRootOfItsEquation) {
  for (const std::size_t n : {1, 16, 576, 14336}) {
    for (const int paths : {2, 5, 50}) {
      if (std::log(paths) > 2.0 * n) continue;  // no root
      const double rho = klein_rho(n, paths);
      EXPECT_GT(rho, 1);
      EXPECT_NEAR(2.0 * n / rho * (1 + std::log(rho)), std::log(paths), 1e-9 * std::log(paths));
    }
  }
  EXPECT_TRUE(std::isinf(klein_rho(100, 1)));
}

// The closed form, in long double and relative to the largest term.
std::vector<double> truncated_gaussian(double centre, double sharpness, int highest) {
  std::vector<long double> cost;
  for (int c = 0; c <= highest; ++c) cost.push_back(sharpness * (c - centre) * (c - centre));
  long double least = cost[0], total = 0;
  for (const long double v : cost) least = std::min(least, v);
  for (const long double v : cost) total += std::exp(least - v);
  std::vector<double> p;
  for (const long double v : cost) p.push_back(static_cast<double>(std::exp(least - v) / total));
  return p;
}

struct Case {
  double centre, sharpness;
  int highest;
};

class KleinDraws : public testing::TestWithParam<Case> {};

TEST_P(KleinDraws, FollowTheTruncatedDiscreteGaussian) {
  const auto [centre, sharpness, highest] = GetParam();
  constexpr int kDraws = 40000;
  const std::vector<double> expected = truncated_gaussian(centre, sharpness, highest);
  std::vector<int> seen(highest + 1);
  for (std::uint32_t input = 0; input < kDraws / 100; ++input) {
    std::vector<std::uint64_t> row(100);
    std::iota(row.begin(), row.end(), 1000 * input);
    const std::vector<float> centres(100, static_cast<float>(centre));
    const std::vector<float> sharpnesses(100, static_cast<float>(sharpness));
    std::vector<std::uint8_t> codes(100);
    sample_codes({77, 3, input}, row.data(), centres.data(), sharpnesses.data(), highest, 100,
                 codes.data());
    for (const int code : codes) {
      ASSERT_LE(code, highest);
      ++seen[code];
    }
  }
  // Chi-squared over cells of at least 10 expected draws, the rest pooled.
  double statistic = 0, pooled_expected = 0, pooled_seen = 0;
  int cells = 0;
  const auto add = [&](double wanted, double found) {
    statistic += (found - wanted) * (found - wanted) / wanted;
    ++cells;
  };
  for (int c = 0; c <= highest; ++c) {
    if (expected[c] * kDraws >= 10) {
      add(expected[c] * kDraws, seen[c]);
    } else {
      pooled_expected += expected[c] * kDraws;
      pooled_seen += seen[c];
    }
  }
  if (pooled_expected >= 1) {
    add(pooled_expected, pooled_seen);
  } else {
    EXPECT_LE(pooled_seen, 12);  // P(Poisson(1) > 12) < 1e-10
  }
  // 5 standard deviations above the mean of a chi-squared variable: a false alarm in about 1e5.
  const double freedom = cells - 1;
  EXPECT_LT(statistic, freedom + 5 * std::sqrt(2 * freedom) + 10);
}

INSTANTIATE_TEST_SUITE_P(
    CentresInsideAtTheEdgeAndFarOutside, KleinDraws,
    testing::Values(Case{3.4, 0.3, 7}, Case{3.5, 8.87, 7}, Case{0.1, 0.05, 15}, Case{7.0, 1.0, 7},
                    Case{-0.6, 0.5, 7}, Case{-40, 0.01, 7}, Case{300, 0.001, 15}, Case{1e6, 1e-7, 3},
                    Case{-1e8, 1e-9, 255}, Case{100.3, 0.002, 255}, Case{0.5, 2.0, 1},
                    Case{5.0, 0.0, 7}, Case{3.5, 3.5, 7},
                    Case{0.5, 4.0, 1}, Case{6.8, 3.4, 7}, Case{-0.4, 5.0, 15}));

TEST(Klein, ASharpDistributionIsThePointNearestInTheBox) {
  for (const double centre : {-3.0, 0.2, 3.49, 6.9, 12.0, 1e30, -1e30}) {
    const double nearest = std::min(std::max(std::nearbyint(centre), 0.0), 7.0);
    for (const double uniform : {0.0, 0.5, 0x1.fffffffffffffp-1}) {
      EXPECT_EQ(sample_code(centre, 1e9, 7, uniform), nearest);
    }
  }
}

// Rows whose draws are all but even: a change of any part of the place changes some of 64 draws.
std::vector<std::uint8_t> draws_at(const DrawPlace& place, std::uint64_t first_row) {
  std::vector<std::uint64_t> row(64);
  std::iota(row.begin(), row.end(), first_row);
  const std::vector<float> centre(64, 3.5f), sharpness(64, 8.0f);
  std::vector<std::uint8_t> code(64);
  sample_codes(place, row.data(), centre.data(), sharpness.data(), 7, 64, code.data());
  return code;
}

TEST(Klein, DrawsDependOnEveryPartOfTheirPlaceAndNothingElse) {
  const auto base = draws_at({1, 2, 3}, 0);
  EXPECT_EQ(base, draws_at({1, 2, 3}, 0));
  EXPECT_NE(base, draws_at({2, 2, 3}, 0));
  EXPECT_NE(base, draws_at({1, 3, 3}, 0));
  EXPECT_NE(base, draws_at({1, 2, 4}, 0));
  EXPECT_NE(base, draws_at({1, 2, 3}, 64));
  const auto later = draws_at({1, 2, 3}, 10);
  EXPECT_TRUE(std::equal(base.begin() + 10, base.end(), later.begin()));
}

}  // namespace
}  // namespace neap
