#include "solve/awq.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "solve/problem.h"

namespace neap {
namespace {

// sum over rows of (w^ - w) H (w^ - w)' in fp64, where w^ is the rounded (w scales) / scales.
double error_of(const AwqLayer& layer, const Matrix<float>& gram, const std::vector<float>& scales) {
  Matrix<float> scaled(layer.weight.rows, layer.weight.cols);
  for (std::size_t r = 0; r < scaled.rows(); ++r) {
    for (std::size_t c = 0; c < scaled.cols(); ++c) scaled(r, c) = layer.weight(r, c) * scales[c];
  }
  const QuantizedTensor t = round_to_nearest(scaled, layer.layout, GridSearch::range);
  double sum = 0;
  for (std::size_t r = 0; r < scaled.rows(); ++r) {
    std::vector<double> e(scaled.cols());
    for (std::size_t c = 0; c < e.size(); ++c) e[c] = weight_of(t, r, c) / scales[c] - layer.weight(r, c);
    sum += exact_objective(damped(gram, 0), e);
  }
  return sum;
}

std::vector<float> magnitudes_of(const Matrix<float>& gram) {
  std::vector<float> m;
  for (std::size_t i = 0; i < gram.rows(); ++i) m.push_back(std::sqrt(gram(i, i)));
  return m;
}

TEST(Awq, ScalesLowerTheErrorOfTheLayersThatShareThem) {
  const Problem one(70, 96, 1), two(20, 96, 4);
  const GroupLayout layout{3, 32, false, DType::bf16};
  const std::array layers = {AwqLayer{one.weight, layout}, AwqLayer{two.weight, layout}};
  const AwqScales found = search_awq_scales(one.gram, magnitudes_of(one.gram), layers);
  EXPECT_GT(found.exponent, 0);
  EXPECT_LT(found.error, found.error_plain);
  const double error = error_of(layers[0], one.gram, found.scales) + error_of(layers[1], one.gram, found.scales);
  EXPECT_NEAR(found.error, error, 1e-4 * error);
  const std::vector<float> none(96, 1.0f);
  const double plain = error_of(layers[0], one.gram, none) + error_of(layers[1], one.gram, none);
  EXPECT_NEAR(found.error_plain, plain, 1e-4 * plain);
}

TEST(Awq, ScalesAreThePowerOfTheMagnitudesAroundOne) {
  const Problem problem(40, 64, 2);
  const std::vector<float> magnitudes = magnitudes_of(problem.gram);
  const std::array layers = {AwqLayer{problem.weight, {3, 16, true, DType::bf16}}};
  const AwqScales found = search_awq_scales(problem.gram, magnitudes, layers);
  ASSERT_GT(found.exponent, 0);
  for (std::size_t i = 1; i < 64; ++i) {
    EXPECT_NEAR(found.scales[i] / found.scales[0],
                std::pow(magnitudes[i] / magnitudes[0], found.exponent), 1e-4 * found.scales[i] / found.scales[0]);
  }
  const auto [low, high] = std::minmax_element(found.scales.begin(), found.scales.end());
  EXPECT_NEAR(*low * *high, 1, 1e-4);
}

TEST(Awq, DeadInputsGetAScale) {
  const Problem problem(10, 32, 3);
  std::vector<float> magnitudes = magnitudes_of(problem.gram);
  magnitudes[5] = 0;
  const std::array layers = {AwqLayer{problem.weight, {4, 16, false, DType::bf16}}};
  for (const float s : search_awq_scales(problem.gram, magnitudes, layers).scales) {
    EXPECT_GT(s, 0);
    EXPECT_TRUE(std::isfinite(s));
  }
}

TEST(Awq, ClippingNeverErrsMoreThanTheFullRangeGroupByGroup) {
  const Problem problem(67, 50, 4);  // across a tile of rows; the last group is shorter
  for (const bool symmetric : {false, true}) {
    const GroupLayout layout{3, 16, symmetric, DType::bf16};
    const auto full = round_to_nearest(problem.weight, layout, GridSearch::range);
    const auto clipped = round_to_grid(problem.weight, search_awq_clip(problem.gram, problem.weight, layout));
    std::size_t better = 0;
    for (std::size_t r = 0; r < 67; ++r) {
      for (std::size_t first = 0; first < 50; first += 16) {
        double before = 0, after = 0;
        for (std::size_t i = first; i < std::min<std::size_t>(first + 16, 50); ++i) {
          for (std::size_t j = first; j < std::min<std::size_t>(first + 16, 50); ++j) {
            const auto e = [&](const QuantizedTensor& t, std::size_t c) {
              return weight_of(t, r, c) - problem.weight(r, c);
            };
            before += problem.gram(i, j) * e(full, i) * e(full, j);
            after += problem.gram(i, j) * e(clipped, i) * e(clipped, j);
          }
        }
        EXPECT_LE(after, before * (1 + 1e-5));
        better += after < before;
      }
    }
    EXPECT_GT(better, 67u);
  }
}

}  // namespace
}  // namespace neap
