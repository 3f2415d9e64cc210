#include "solve/codebook_fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "solve/histogram_codebook.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

struct Sample {
  Matrix<std::int16_t> blocks;
  std::vector<float> weights;
};

// Normal blocks of eight whose largest magnitudes vary, as normalized weights do.
Sample normal_blocks(std::size_t count, std::uint64_t seed) {
  const Matrix<float> values = random_matrix(count, 9, seed);
  Sample sample{Matrix<std::int16_t>(count, 8), std::vector<float>(count)};
  for (std::size_t b = 0; b < count; ++b) {
    const float size = 64 * 9 * std::exp(0.3f * values(b, 8));
    for (std::size_t i = 0; i < 8; ++i) {
      sample.blocks(b, i) = static_cast<std::int16_t>(
          std::lround(std::clamp(values(b, i) * size, -1984.0f, 1984.0f)));
    }
    sample.weights[b] = 0.5f + static_cast<float>(b % 3);
  }
  return sample;
}

double brute_error(const Sample& sample, const Codebooks& codebooks) {
  double sum = 0;
  for (std::size_t b = 0; b < sample.blocks.rows(); ++b) {
    double least = std::numeric_limits<double>::infinity();
    for (const Codebook& book : codebooks) {
      double error = 0;
      for (std::size_t i = 0; i < sample.blocks.cols(); ++i) {
        double nearest = std::numeric_limits<double>::infinity();
        for (const int entry : book)
          nearest = std::min(nearest, std::abs(sample.blocks(b, i) / 64.0 - entry));
        error += nearest * nearest;
      }
      least = std::min(least, error);
    }
    sum += sample.weights[b] * least;
  }
  return sum;
}

TEST(CodebookFit, ErrorIsThatOfExhaustiveSearch) {
  const Sample sample = normal_blocks(700, 1);
  const CodebookFit fit =
      fit_codebooks(sample.blocks, sample.weights, {.codebooks = 4, .starts = 2});
  const double brute = brute_error(sample, fit.codebooks);
  EXPECT_NEAR(codebook_error(sample.blocks, sample.weights, fit.codebooks), brute, 1e-5 * brute);
  double values = 0;
  for (const float weight : sample.weights) values += 8 * weight;
  EXPECT_NEAR(fit.error, brute / values, 1e-5 * fit.error);
}

TEST(CodebookFit, ErrorNeverRisesWithinAPhaseAndRoundingIsMadeUpFor) {
  const Sample sample = normal_blocks(6000, 2);
  const CodebookFit fit = fit_codebooks(sample.blocks, sample.weights, {.starts = 3});
  ASSERT_GT(fit.steps.size(), 10u);
  int phases = 0;
  for (std::size_t i = 0; i < fit.steps.size(); ++i) {
    const bool new_phase = i == 0 || fit.steps[i].phase != fit.steps[i - 1].phase ||
                           fit.steps[i].start != fit.steps[i - 1].start;
    phases += new_phase;
    if (new_phase) continue;
    EXPECT_LE(fit.steps[i].error, fit.steps[i - 1].error * (1 + 1e-6)) << i;
  }
  EXPECT_EQ(phases, 7);
  EXPECT_LT(fit.error, fit.rounded_error);
  EXPECT_LT(fit.error, 1.1 * fit.real_error);
}

TEST(CodebookFit, MoreCodebooksNeverFitWorse) {
  const Sample sample = normal_blocks(4000, 3);
  double last = std::numeric_limits<double>::infinity();
  for (const int count : {1, 2, 4, 8, 16}) {
    const CodebookFit fit = fit_codebooks(sample.blocks, sample.weights, {.codebooks = count});
    EXPECT_EQ(fit.codebooks.size(), static_cast<std::size_t>(count));
    EXPECT_LT(fit.error, last);
    last = fit.error;
  }
}

TEST(CodebookFit, PlantedCodebooksAreFound) {
  const Codebooks planted = {
      {-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15},
      {-31, -29, -27, -25, -23, -21, -19, -17, 17, 19, 21, 23, 25, 27, 29, 31}};
  Sample sample{Matrix<std::int16_t>(2000, 8), std::vector<float>(2000, 1)};
  for (std::size_t b = 0; b < 2000; ++b) {
    const auto bits = philox({static_cast<std::uint32_t>(b), 0, 0, 0}, 9);
    for (std::size_t i = 0; i < 8; ++i) {
      sample.blocks(b, i) =
          static_cast<std::int16_t>(64 * planted[b % 2][(bits[i / 4] >> (4 * (i % 4))) % 16]);
    }
  }
  const CodebookFit fit = fit_codebooks(sample.blocks, sample.weights, {.codebooks = 2});
  EXPECT_EQ(fit.codebooks, planted);
  EXPECT_EQ(fit.error, 0);
}

TEST(CodebookFit, OneBlockForManyCodebooksLeavesIdleOnesHarmless) {
  Sample sample{Matrix<std::int16_t>(3, 8), {1, 0, 2}};
  for (std::size_t i = 0; i < 8; ++i)
    sample.blocks(0, i) = sample.blocks(2, i) = static_cast<std::int16_t>(64 * i);
  const CodebookFit fit = fit_codebooks(sample.blocks, sample.weights, {.codebooks = 8});
  EXPECT_EQ(fit.codebooks.size(), 8u);
  EXPECT_EQ(fit.error, 0);
}

TEST(CodebookFit, SeedDecidesAndThreadsDoNot) {
  const Sample sample = normal_blocks(20000, 4);
  const CodebookFitOptions options{.starts = 1, .iterations = 20};
  ThreadScope one(1);
  const CodebookFit alone = fit_codebooks(sample.blocks, sample.weights, options);
  ThreadScope four(4);
  const CodebookFit together = fit_codebooks(sample.blocks, sample.weights, options);
  EXPECT_EQ(together.codebooks, alone.codebooks);
  EXPECT_EQ(together.error, alone.error);
  CodebookFitOptions other = options;
  other.seed = 43;
  EXPECT_NE(fit_codebooks(sample.blocks, sample.weights, other).codebooks, alone.codebooks);
}

TEST(CodebookFit, RefitGoesOnAndNeverLoses) {
  const Sample sample = normal_blocks(5000, 5), moved = normal_blocks(5000, 6);
  const CodebookFit fit = fit_codebooks(sample.blocks, sample.weights, {.starts = 1});
  const CodebookFit again = refit_codebooks(moved.blocks, moved.weights, fit.codebooks, {});
  EXPECT_LT(codebook_error(moved.blocks, moved.weights, again.codebooks),
            codebook_error(moved.blocks, moved.weights, fit.codebooks));
}

Histogram histogram_with(const std::vector<std::pair<int, double>>& weights) {
  Histogram histogram(kPoints);
  for (const auto& [n, weight] : weights)
    histogram[static_cast<std::size_t>(n + kLargestPoint)] += weight;
  return histogram;
}

double histogram_error(const Histogram& histogram, const Codebook& codebook) {
  double sum = 0;
  for (std::size_t place = 0; place < kPoints; ++place) {
    double least = std::numeric_limits<double>::infinity();
    for (const int entry : codebook) {
      const double e = (static_cast<double>(place) - kLargestPoint) / 64 - entry;
      least = std::min(least, e * e);
    }
    sum += histogram[place] * least;
  }
  return sum;
}

// 16 of 19 candidates: the values lie in [9, 27], so that no other entry can help. All C(19, 3)
// subsets.
TEST(BestIntegerCodebook, IsTheBestOfAllSubsets) {
  const Matrix<float> random = random_matrix(300, 1, 7);
  std::vector<std::pair<int, double>> weights;
  for (std::size_t i = 0; i < 300; ++i) {
    weights.push_back({64 * 18 + static_cast<int>(std::clamp(250 * random(i, 0), -576.0f, 576.0f)),
                       1.0 + static_cast<double>(i % 4)});
  }
  const Histogram histogram = histogram_with(weights);
  double least = std::numeric_limits<double>::infinity();
  for (int a = 9; a <= 27; ++a) {
    for (int b = a + 1; b <= 27; ++b) {
      for (int c = b + 1; c <= 27; ++c) {
        Codebook codebook{};
        std::size_t k = 0;
        for (int entry = 9; entry <= 27; ++entry) {
          if (entry != a && entry != b && entry != c)
            codebook[k++] = static_cast<std::int8_t>(entry);
        }
        least = std::min(least, histogram_error(histogram, codebook));
      }
    }
  }
  EXPECT_NEAR(histogram_error(histogram, best_integer_codebook(histogram)), least, 1e-9 * least);
}

TEST(BestIntegerCodebook, ReachesValuesBeyondTheEntries) {
  const Codebook codebook = best_integer_codebook(histogram_with({{-4095, 1}, {4095, 1}, {0, 5}}));
  EXPECT_EQ(codebook.front(), -31);
  EXPECT_EQ(codebook.back(), 31);
  EXPECT_NE(std::find(codebook.begin(), codebook.end(), 0), codebook.end());
}

TEST(LloydMax, ASeventeenthValueIsAllThatIsLost) {
  std::vector<std::pair<int, double>> weights;
  for (int i = 0; i < 17; ++i) weights.push_back({100 * i, i == 16 ? 0.001 : 1.0});
  RealCodebook crowded{};
  crowded.fill(0.5);  // all entries but one are idle at first
  const Histogram histogram = histogram_with(weights);
  const RealCodebook found = lloyd_max(histogram, crowded);
  double error = 0;
  for (std::size_t place = 0; place < kPoints; ++place) {
    double least = std::numeric_limits<double>::infinity();
    for (const double entry : found) {
      const double e = (static_cast<double>(place) - kLargestPoint) / 64 - entry;
      least = std::min(least, e * e);
    }
    error += histogram[place] * least;
  }
  // A local optimum may pair two of weight 1; it never leaves more than that.
  EXPECT_LE(error, 2 * (50.0 / 64) * (50.0 / 64) + 0.01);
}

}  // namespace
}  // namespace neap
