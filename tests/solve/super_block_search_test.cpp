#include "solve/super_block_search.h"

#include <gtest/gtest.h>

#include "solve/problem.h"

namespace neap {
namespace {

struct KType {
  GridForm form;
  int bits;
  std::int64_t group;
  int highest;
};
constexpr KType kTypes[] = {{GridForm::super_minimum, 2, 16, 15}, {GridForm::super_signed, 3, 16, 31},
                            {GridForm::super_minimum, 4, 32, 63}, {GridForm::super_minimum, 5, 32, 63},
                            {GridForm::super_signed, 6, 16, 127}};

double squared_error(const Matrix<float>& weight, const Grid& grid, const std::vector<float>& importance) {
  const auto codes = nearest_codes(weight, grid);
  double sum = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::size_t r = i / weight.cols(), c = i % weight.cols(), g = c / grid.group_width();
    const double e = grid.scales(r, g) * (codes[i] - double{grid.zeros(r, g)}) - weight(r, c);
    sum += importance[c] * e * e;
  }
  return sum;
}

std::vector<float> uneven(std::size_t count) {
  std::vector<float> importance(count);
  for (std::size_t i = 0; i < count; ++i) importance[i] = 0.1f + static_cast<float>(i % 11);
  return importance;
}

TEST(SuperBlockSearch, NumbersAreThoseThatABlockHolds) {
  const Matrix<float> weight = random_matrix(20, 512, 1);
  for (const KType& type : kTypes) {
    const Grid grid = make_grid(weight, {type.bits, type.group, false, DType::f16}, GridSearch::weighted, {}, type.form);
    const SuperBlocks& super = grid.super_blocks;
    ASSERT_EQ(grid.highest_sub_scale(), type.highest);
    for (std::size_t r = 0; r < 20; ++r) {
      for (std::size_t g = 0; g < grid.scales.cols(); ++g) {
        const std::size_t b = g * static_cast<std::size_t>(type.group) / 256;
        const int sub = std::abs(super.sub_scales(r, g));
        EXPECT_TRUE(sub >= 1 && sub <= type.highest);
        EXPECT_TRUE(half_minimum(super.scales(r, b)) == super.scales(r, b) && super.scales(r, b) > 0);
        EXPECT_EQ(grid.scales(r, g), super.scales(r, b) * static_cast<float>(sub));
        if (type.form != GridForm::super_minimum) continue;
        EXPECT_LE(super.sub_minima(r, g), type.highest);
        EXPECT_TRUE(half_minimum(super.minima(r, b)) == super.minima(r, b) && super.minima(r, b) >= 0);
        EXPECT_NEAR(grid.zeros(r, g) * grid.scales(r, g), super.minima(r, b) * super.sub_minima(r, g), 1e-6);
      }
    }
  }
}

// Against scales of its own for each group: 6 bits of them cost a few hundredths of the error, 4 bits a few tenths.
TEST(SuperBlockSearch, TwoLevelsCostLittleOfWhatFreeScalesGain) {
  const Matrix<float> weight = random_matrix(30, 512, 2);
  const std::vector<float> importance = uneven(512);
  for (const KType& type : kTypes) {
    const GroupLayout layout{type.bits, type.group, false, DType::f16};
    const bool minima = type.form == GridForm::super_minimum;
    const Grid free = make_grid(weight, layout, GridSearch::weighted, importance, minima ? GridForm::half_minimum : GridForm::signed_half);
    const Grid levels = make_grid(weight, layout, GridSearch::weighted, importance, type.form);
    const double ratio = squared_error(weight, levels, importance) / squared_error(weight, free, importance);
    EXPECT_LT(ratio, type.highest == 15 ? 1.2 : 1.06) << type.bits;
    EXPECT_GT(ratio, 0.98) << type.bits;
  }
}

TEST(SuperBlockSearch, ZeroAndConstantRowsAreHeld) {
  Matrix<float> weight(2, 256);
  for (std::size_t c = 0; c < 256; ++c) weight(1, c) = 0.25f;
  for (const KType& type : kTypes) {
    const Grid grid = make_grid(weight, {type.bits, type.group, false, DType::f16}, GridSearch::weighted, {}, type.form);
    EXPECT_LT(squared_error(weight, grid, std::vector<float>(256, 1.0f)), 256 * 1e-8) << type.bits;
  }
}

// Eight inputs move together, a thousand times as far as the others. Measured by what is left when all others make up for
// it, an error of any of them would count for nothing, and what they make of it together would be lost.
TEST(SuperBlockSearch, InputsOfHugeEnergyThatGoTogetherAreNotSpoilt) {
  Problem problem(16, 256, 9);
  std::vector<float> sink(256);
  for (std::size_t i = 0; i < 8; ++i) sink[31 * i + 5] = 1000.0f + 100.0f * static_cast<float>(i);
  for (std::size_t i = 0; i < 256; ++i) {
    for (std::size_t j = 0; j < 256; ++j) problem.gram(i, j) += sink[i] * sink[j];
  }
  const LayerSystem system(problem.gram, {}, {.target_mix = 1});
  for (const KType& type : kTypes) {
    const GroupLayout layout{type.bits, type.group, false, DType::f16};
    const GridSolution s = solve_layer_in_form(system, problem.weight, layout, type.form, {.paths = 0}, 1);
    double lost = 0, whole = 0;
    for (std::size_t r = 0; r < 16; ++r) {
      double error = 0, output = 0;
      for (std::size_t c = 0; c < 256; ++c) {
        const std::size_t g = c / s.grid.group_width();
        const double w = s.grid.scales(r, g) * (s.codes[r * 256 + c] - double{s.grid.zeros(r, g)});
        error += sink[c] * (w - problem.weight(r, c));
        output += sink[c] * problem.weight(r, c);
      }
      lost += error * error;
      whole += output * output;
    }
    EXPECT_LT(lost, 1e-3 * whole) << type.bits;
  }
}

}  // namespace
}  // namespace neap
