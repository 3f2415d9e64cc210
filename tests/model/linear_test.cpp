#include "model/linear.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/half.h"
#include "small_block.h"

namespace neap {
namespace {

TEST(DenseLinear, RoundsBothOperandsInBf16AndNothingElse) {
  const Matrix<float> w = random_matrix(70, 130, 1.f, "w"), x = random_matrix(9, 130, 1.f, "x");
  const std::vector<float> bias = random_values(70, 1.f, 0, "bias");
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    const auto operand = [&](float v) {
      return static_cast<double>(precision == Precision::bf16 ? bf16_to_float(float_to_bf16(v))
                                                              : v);
    };
    const auto linear = make_dense_linear(w, bias, precision);
    EXPECT_EQ(linear->in(), 130u);
    EXPECT_EQ(linear->out(), 70u);
    Matrix<float> y(9, 70);
    linear->apply(x, y);
    for (std::size_t r = 0; r < 9; ++r) {
      for (std::size_t o = 0; o < 70; ++o) {
        double expected = static_cast<double>(bias[o]);
        for (std::size_t i = 0; i < 130; ++i) expected += operand(x(r, i)) * operand(w(o, i));
        EXPECT_NEAR(y(r, o), expected, 1e-5);
      }
    }
  }
}

TEST(DenseLinear, KeepsItsOwnCopyOfTheWeight) {
  Matrix<float> w = random_matrix(8, 8, 1.f, "w"), x = random_matrix(1, 8, 1.f, "x");
  const auto linear = make_dense_linear(w, {}, Precision::f32);
  Matrix<float> before(1, 8), after(1, 8);
  linear->apply(x, before);
  w(3, 3) = 100;
  linear->apply(x, after);
  EXPECT_EQ(before(0, 3), after(0, 3));
}

}  // namespace
}  // namespace neap
