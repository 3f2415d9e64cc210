#include "model/block.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <numbers>

#include "base/parallel.h"
#include "model/elementwise.h"
#include "small_block.h"

namespace neap {
namespace {

TEST(ForwardBlock, EqualsTheFormula) {
  for (const SmallBlock& shape : {SmallBlock{},
                                  {.bias = true, .qk_norm = true},
                                  {.heads = 3,
                                  .kv_heads = 3,
                                  .head_dim = 24,
                                  .hidden = 50,
                                  .intermediate = 133,
                                  .window = 20}}) {
    const ModelConfig config = shape.config();
    const RopeTable rope = make_rope_table(config, 75);
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      const Block block = shape.block(precision);
      Matrix<float> x = random_matrix(150, shape.hidden, 1.f, "x");
      const DoubleMatrix first = to_double(x.view().row_range(0, 75)),
                         second = to_double(x.view().row_range(75, 75));
      forward_block(config, block, rope, precision, 75, x);
      const double tolerance = precision == Precision::f32 ? 2e-6 : 1e-2;
      EXPECT_LT(relative_error(x.view().row_range(0, 75), reference_block(shape, block, first)),
                tolerance);
      EXPECT_LT(relative_error(x.view().row_range(75, 75), reference_block(shape, block, second)),
                tolerance);
    }
  }
}

TEST(ForwardBlock, IsItsStepsInARow) {
  const SmallBlock shape;
  const ModelConfig config = shape.config();
  const Block block = shape.block(Precision::bf16);
  const RopeTable rope = make_rope_table(config, 1500);
  Matrix<float> x = random_matrix(6000, shape.hidden, 1.f, "x"), y = x;
  forward_block(config, block, rope, Precision::bf16, 1500, x);
  Matrix<float> h(6000, shape.hidden), a(6000, 64), f(6000, shape.intermediate);
  attention_input(config, block, y, h);
  attention(config, block, rope, Precision::bf16, 1500, h, a);
  add_attention(block, a, y);
  mlp_input(config, block, y, h);
  mlp_hidden(block, h, f);
  add_mlp(block, f, y);
  EXPECT_EQ(std::memcmp(x.data(), y.data(), 6000 * shape.hidden * sizeof(float)), 0);
}

TEST(ForwardBlock, NeitherThreadsNorCompanyChangeAWindowsBits) {
  const SmallBlock shape{.qk_norm = true};
  const ModelConfig config = shape.config();
  const RopeTable rope = make_rope_table(config, 130);
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    const Block block = shape.block(precision);
    const Matrix<float> x = random_matrix(5 * 130, shape.hidden, 1.f, "x");
    Matrix<float> alone = x;
    for (std::size_t w = 0; w < 5; ++w) {
      forward_block(config, block, rope, precision, 130, alone.view().row_range(w * 130, 130));
    }
    for (const int threads : {1, 2, 3}) {
      const ThreadScope scope(threads);
      Matrix<float> together = x;
      forward_block(config, block, rope, precision, 130, together);
      EXPECT_EQ(std::memcmp(alone.data(), together.data(), x.rows() * x.cols() * sizeof(float)), 0);
    }
  }
}

TEST(Rope, ScalingsStretchTheWavesTheyShould) {
  ModelConfig config = SmallBlock{.head_dim = 64}.config();
  const RopeTable plain = make_rope_table(config, 40);
  config.rope_scaling = {.kind = RopeScaling::Kind::linear, .factor = 4};
  const RopeTable linear = make_rope_table(config, 40);
  config.rope_scaling = {.kind = RopeScaling::Kind::llama3,
                         .factor = 4,
                         .low_frequency = 1,
                         .high_frequency = 4,
                         .original_positions = 1024};
  const RopeTable llama3 = make_rope_table(config, 40);
  config.rope_scaling = {};
  config.rope_factors.assign(32, 4.f);
  const RopeTable factors = make_rope_table(config, 40);
  for (std::size_t i = 0; i < 32; ++i) {
    const double wavelength = 2 * std::numbers::pi * std::pow(10000.0, static_cast<double>(i) / 32);
    EXPECT_NEAR(linear.cosine(36, i), plain.cosine(9, i), 1e-5);
    EXPECT_NEAR(factors.sine(36, i), plain.sine(9, i), 1e-5);
    if (wavelength < 256) {
      EXPECT_EQ(llama3.sine(36, i), plain.sine(36, i));
    } else if (wavelength > 1024) {
      EXPECT_EQ(llama3.sine(36, i), linear.sine(36, i));
    } else {
      EXPECT_GT(llama3.sine(9, i), linear.sine(9, i));
      EXPECT_LT(llama3.sine(9, i), plain.sine(9, i));
    }
  }
}

TEST(Elementwise, ExponentialsAreRightToTheLastBits) {
  // Through softmax_step: weights of scores against a maximum of 0, down to where they vanish.
  std::vector<float> scores(16 * 1024), weights(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i)
    scores[i] = -130.f * static_cast<float>(i) / 16384.f;
  std::vector<float> given = scores;
  SoftmaxState state;
  softmax_step(state, given.data(), 0, given.size(), given.size(), Operand::f32,
               reinterpret_cast<std::byte*>(weights.data()));
  double sum = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const double exact = std::exp2(static_cast<double>(scores[i]));
    EXPECT_NEAR(weights[i], exact, exact * 0x1p-22 + 0x1p-126) << scores[i];
    sum += exact;
  }
  EXPECT_NEAR(state.sum, sum, 1e-5 * sum);
}

TEST(Elementwise, SiluHoldsAtBothEnds) {
  const std::vector<float> gate{-1e30f, -200.f, -88.f, -20.f, -1.f, -0.f, 1.f, 20.f, 200.f, 1e30f};
  std::vector<float> up(gate.size(), 2.f), y(gate.size());
  silu_multiply(gate.data(), up.data(), gate.size(), y.data());
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const double exact = 2.0 * gate[i] / (1 + std::exp(-static_cast<double>(gate[i])));
    EXPECT_NEAR(y[i], exact, std::abs(exact) * 4e-6 + 1e-7) << gate[i];
  }
}

TEST(FirstNonFiniteRow, FindsTheFirstOrNone) {
  Matrix<float> x(1000, 37);
  EXPECT_EQ(first_non_finite_row(x), 1000u);
  x(999, 36) = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(first_non_finite_row(x), 999u);
  x(500, 0) = std::nanf("");
  x(501, 3) = std::nanf("");
  EXPECT_EQ(first_non_finite_row(x), 500u);
  x(0, 5) = std::numeric_limits<float>::infinity();
  EXPECT_EQ(first_non_finite_row(x), 0u);
  EXPECT_EQ(first_non_finite_row(x.view().block(0, 0, 400, 5)), 400u);
}

}  // namespace
}  // namespace neap
