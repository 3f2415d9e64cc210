#include "model/coded_linear.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "base/parallel.h"
#include "codec/lobcq_support.h"
#include "neap/error.h"
#include "small_block.h"

namespace neap {
namespace {

InputEncoder encoder_for(const LobcqLayout& layout, std::optional<float> tensor_scale) {
  const Codebooks codebooks = random_codebooks(layout, 7);
  return {std::make_shared<LobcqEncoder>(layout, codebooks), codebooks, tensor_scale};
}

// What the format's own multiply gives, one token after the other.
Matrix<float> judged(const InputEncoder& inputs, const LobcqTensor& weight,
                     const Codebooks& codebooks, std::span<const float> bias,
                     const Matrix<float>& x) {
  Matrix<float> y(x.rows(), static_cast<std::size_t>(weight.rows));
  for (std::size_t t = 0; t < x.rows(); ++t) {
    const MatrixView<const float> token = x.view().row_range(t, 1);
    const float scale =
        inputs.tensor_scale ? *inputs.tensor_scale : tensor_scale_for(largest_magnitude(token));
    multiply(inputs.encoder->encode(token, scale, ScaleChoice::maximum), inputs.codebooks, weight,
             codebooks, y.view().row_range(t, 1));
    for (std::size_t o = 0; o < bias.size(); ++o) y(t, o) += bias[o];
  }
  return y;
}

bool same_bits(const Matrix<float>& a, const Matrix<float>& b) {
  return std::memcmp(a.data(), b.data(), a.rows() * a.cols() * sizeof(float)) == 0;
}

TEST(CodedLinear, GivesTheBitsOfTheFormatsMultiplication) {
  std::uint32_t seed = 0;
  for (const LobcqLayout& layout : every_layout()) {
    if (layout.block == 4) continue;
    const std::size_t rows = 1 + 37 * (seed % 4), cols = 30 + 61 * (seed % 3),
                      tokens = seed % 2 ? 3 : 70;
    const Codebooks codebooks = random_codebooks(layout, ++seed);
    const LobcqTensor weight = random_lobcq(layout, static_cast<std::int64_t>(rows),
                                            static_cast<std::int64_t>(cols), seed);
    Matrix<float> x = random_matrix(tokens, cols, 3.f, "x");
    std::fill_n(x.row(tokens - 1), cols, 0.f);  // a token of zeros
    const std::vector<float> bias =
        seed % 3 ? random_values(rows, 1.f, 0, "bias") : std::vector<float>();
    for (const auto& scale : {std::optional<float>(), std::optional<float>(0x1p-9f)}) {
      const InputEncoder inputs = encoder_for(layout, scale);
      const auto linear = make_coded_linear(weight, codebooks, bias, inputs);
      EXPECT_EQ(linear->in(), cols);
      EXPECT_EQ(linear->out(), rows);
      Matrix<float> y(tokens, rows);
      linear->apply(x, y);
      EXPECT_TRUE(same_bits(y, judged(inputs, weight, codebooks, bias, x))) << "case " << seed;
    }
  }
}

TEST(CodedLinear, ABatchAndThreadsChangeNothing) {
  const LobcqLayout layout;
  const Codebooks codebooks = random_codebooks(layout, 1);
  const auto linear =
      make_coded_linear(random_lobcq(layout, 600, 200, 2), codebooks, {}, encoder_for(layout, {}));
  const Matrix<float> x = random_matrix(131, 200, 1.f, "x");
  Matrix<float> all(131, 600), one_by_one(131, 600), on_three(131, 600);
  linear->apply(x, all);
  for (std::size_t t = 0; t < 131; ++t)
    linear->apply(x.view().row_range(t, 1), one_by_one.view().row_range(t, 1));
  const ThreadScope threads(3);
  linear->apply(x, on_three);
  EXPECT_TRUE(same_bits(all, one_by_one));
  EXPECT_TRUE(same_bits(all, on_three));
}

TEST(CodedLinear, AnInputThatIsNotFiniteIsAnError) {
  const LobcqLayout layout;
  const auto linear = make_coded_linear(random_lobcq(layout, 8, 64, 2), random_codebooks(layout, 1),
                                        {}, encoder_for(layout, 1.f));
  Matrix<float> x = random_matrix(5, 64, 1.f, "x"), y(5, 8);
  x(3, 9) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(linear->apply(x, y), Error);
}

TEST(InputCodingLinear, IsTheLayerOnInputsThatWereEncodedAndDecoded) {
  const LobcqLayout layout;
  const Matrix<float> w = random_matrix(20, 100, 1.f, "w"), x = random_matrix(33, 100, 2.f, "x");
  for (const auto& scale : {std::optional<float>(), std::optional<float>(0x1p-10f)}) {
    const InputEncoder inputs = encoder_for(layout, scale);
    Matrix<float> rounded(33, 100), expected(33, 20), found(33, 20);
    for (std::size_t t = 0; t < 33; ++t) {
      const MatrixView<const float> token = x.view().row_range(t, 1);
      const float unit = scale ? *scale : tensor_scale_for(largest_magnitude(token));
      dequantize(inputs.encoder->encode(token, unit, ScaleChoice::maximum), inputs.codebooks, 0, 1,
                 rounded.view().row_range(t, 1));
    }
    make_dense_linear(w, {}, Precision::f32)->apply(rounded, expected);
    make_input_coding_linear(make_dense_linear(w, {}, Precision::f32), inputs)->apply(x, found);
    EXPECT_TRUE(same_bits(expected, found));
    make_dense_linear(w, {}, Precision::f32)->apply(x, expected);
    EXPECT_FALSE(same_bits(expected, found));
  }
}

TEST(InputCodingLinear, RoundsTokensToBlockScaledFormatsOneByOne) {
  const Matrix<float> w = random_matrix(20, 128, 1.f, "w"), x = random_matrix(33, 128, 2.f, "x");
  for (const BlockScaledInputs& inputs : {BlockScaledInputs{BlockScaled::nvfp4, 16}, BlockScaledInputs{BlockScaled::nvfp4, 16, 700.f},
                                          BlockScaledInputs{BlockScaled::mxfp4, 32}, BlockScaledInputs{BlockScaled::int4, 64}}) {
    Matrix<float> rounded(33, 128), expected(33, 20), found(33, 20);
    round_block_scaled(inputs, x, rounded);
    make_dense_linear(w, {}, Precision::f32)->apply(rounded, expected);
    make_input_coding_linear(make_dense_linear(w, {}, Precision::f32), inputs)->apply(x, found);
    EXPECT_TRUE(same_bits(expected, found));
    make_dense_linear(w, {}, Precision::f32)->apply(x, expected);
    EXPECT_FALSE(same_bits(expected, found));
  }
}

}  // namespace
}  // namespace neap
