#include "solve/grid.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "neap/error.h"
#include "solve/problem.h"

namespace neap {
namespace {

TEST(Grid, PortableScalesAreExactInBf16AndFp16) {
  for (std::uint32_t i = 0; i < 200000; ++i) {
    const float value = std::bit_cast<float>(i * 10737u % 0x7f800000u);  // every size there is
    if (!(value > 0)) continue;
    const float scale = portable_scale(value);
    ASSERT_EQ(bf16_to_float(float_to_bf16(scale)), scale);
    ASSERT_EQ(fp16_to_float(float_to_fp16(scale)), scale);
    ASSERT_GE(scale, 0x1p-14f);
    if (value >= 0x1p-14f && value <= 65280) {
      ASSERT_NEAR(scale, value, value * 0x1p-8f);
    }
  }
}

TEST(Grid, ZeroIsAPointOfEveryAsymmetricGrid) {
  Matrix<float> weight = random_matrix(40, 50, 3);
  for (std::size_t i = 0; i < 20 * 50; ++i) weight.data()[i] = std::abs(weight.data()[i]) + 1;  // far from 0
  for (const GridSearch search : {GridSearch::range, GridSearch::weighted}) {
    for (int bits = 1; bits <= 8; ++bits) {
      const Grid grid = make_grid(weight, {bits, 16, false, DType::bf16}, search);
      for (std::size_t k = 0; k < 40 * 4; ++k) {
        const float zero = grid.zeros.data()[k];
        ASSERT_EQ(zero, std::nearbyint(zero));
        ASSERT_GE(zero, 0);
        ASSERT_LE(zero, grid.highest());
      }
    }
  }
}

TEST(Grid, RangeReachesEveryWeightUpToHalfAStepAndTheScalesRounding) {
  const Matrix<float> weight = random_matrix(30, 64, 4);
  for (const bool symmetric : {false, true}) {
    for (int bits = 2; bits <= 8; ++bits) {
      const QuantizedTensor t = round_to_nearest(weight, {bits, 16, symmetric, DType::bf16}, GridSearch::range);
      for (std::size_t r = 0; r < 30; ++r) {
        for (std::size_t c = 0; c < 64; ++c) {
          const double scale = t.scales[r * 4 + c / 16];
          // Half a step, half more for the rounded zero point, and 2^-8 of the range for the rounded scale.
          EXPECT_NEAR(weight_of(t, r, c), weight(r, c), scale * (1 + (1 << bits) * 0x1p-8));
        }
      }
    }
  }
}

double squared_error(const Matrix<float>& weight, const QuantizedTensor& t, const std::vector<float>& importance) {
  double sum = 0;
  for (std::size_t r = 0; r < weight.rows(); ++r) {
    for (std::size_t c = 0; c < weight.cols(); ++c) {
      const double e = weight_of(t, r, c) - weight(r, c);
      sum += importance[c] * e * e;
    }
  }
  return sum;
}

TEST(Grid, SearchNeverErrsMoreThanTheFullRangeInItsOwnMeasure) {
  const Matrix<float> weight = random_matrix(30, 70, 5);
  std::vector<float> importance(70);
  for (std::size_t c = 0; c < 70; ++c) importance[c] = static_cast<float>(c % 7);
  for (const bool symmetric : {false, true}) {
    for (const int bits : {1, 2, 3, 4, 8}) {
      const GroupLayout layout{bits, 32, symmetric, DType::bf16};
      const auto full = round_to_nearest(weight, layout, GridSearch::range);
      const auto best = round_to_nearest(weight, layout, GridSearch::weighted, importance);
      EXPECT_LE(squared_error(weight, best, importance), squared_error(weight, full, importance) * (1 + 1e-6));
    }
  }
}

TEST(Grid, AGroupOfZerosGetsZeros) {
  const Matrix<float> weight(3, 20);
  for (const bool symmetric : {false, true}) {
    const QuantizedTensor t = round_to_nearest(weight, {4, 8, symmetric, DType::bf16});
    for (std::size_t r = 0; r < 3; ++r) {
      for (std::size_t c = 0; c < 20; ++c) EXPECT_EQ(weight_of(t, r, c), 0);
    }
    for (const float s : t.scales) EXPECT_GT(s, 0);
  }
}

TEST(Grid, OneBitGridsWork) {
  Matrix<float> weight(1, 4);
  for (std::size_t c = 0; c < 4; ++c) weight(0, c) = c % 2 == 0 ? -0.5f : 0.0f;
  const QuantizedTensor t = round_to_nearest(weight, {1, 4, false, DType::bf16});
  for (std::size_t c = 0; c < 4; ++c) EXPECT_EQ(weight_of(t, 0, c), weight(0, c));
}

TEST(Grid, RefusesALayoutOutOfRange) {
  const Matrix<float> weight(1, 4);
  EXPECT_THROW(round_to_nearest(weight, {0, 4, false, DType::bf16}), Error);
  EXPECT_THROW(round_to_nearest(weight, {9, 4, false, DType::bf16}), Error);
  EXPECT_THROW(round_to_nearest(weight, {4, -1, false, DType::bf16}), Error);
}

}  // namespace
}  // namespace neap
