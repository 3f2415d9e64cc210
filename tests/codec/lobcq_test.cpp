#include "codec/lobcq.h"

#include <gtest/gtest.h>

#include <cmath>

#include "codec/lobcq_support.h"

namespace neap {
namespace {

TEST(Lobcq, BitsPerWeightFollowFromTheLayout) {
  EXPECT_DOUBLE_EQ(bits_per_weight({64, 8, 8}, 576, 1536), 4.5);
  EXPECT_DOUBLE_EQ(bits_per_weight({64, 8, 16}, 576, 1536), 4.625);
  EXPECT_DOUBLE_EQ(bits_per_weight({128, 8, 2}, 576, 1536), 4.1875);
  for (const LobcqLayout& layout : every_layout()) {
    const double formula =
        4 + std::log2(layout.codebooks) / layout.block + 8.0 / layout.block_array;
    EXPECT_DOUBLE_EQ(bits_per_weight(layout, 3, 4096), formula);
    EXPECT_GT(bits_per_weight(layout, 3, 4096 + 1), formula);
  }
}

TEST(Lobcq, DequantizeIsEntryTimesProductOfScales) {
  for (const LobcqLayout& layout : every_layout()) {
    const Codebooks codebooks = random_codebooks(layout, 1);
    LobcqTensor tensor = random_lobcq(layout, 5, 275, 2);
    tensor.tensor_scale = 0.00123f;
    check_invariants(tensor);
    Matrix<float> out(4, 275);
    dequantize(tensor, codebooks, 1, 4, out);
    for (std::int64_t r = 0; r < 4; ++r) {
      for (std::int64_t c = 0; c < 275; ++c) {
        const auto array =
            static_cast<std::size_t>((r + 1) * layout.arrays(275) + c / layout.block_array);
        const auto block =
            static_cast<std::size_t>((r + 1) * layout.blocks(275) + c / layout.block);
        const auto code = tensor.codes[static_cast<std::size_t>((r + 1) * 275 + c)];
        const float scale = 0.00123f * e4m3_to_float(tensor.scales[array]);
        const float value = static_cast<float>(codebooks[tensor.selectors[block]][code]) * scale;
        ASSERT_EQ(out(static_cast<std::size_t>(r), static_cast<std::size_t>(c)), value);
      }
    }
  }
}

TEST(Lobcq, ArraysOfZerosBecomePositiveZero) {
  Codebooks codebooks(2);
  for (Codebook& book : codebooks) book.fill(-7);
  const LobcqTensor tensor{.layout = {16, 8, 2},
                           .rows = 1,
                           .cols = 16,
                           .codes = std::vector<std::uint8_t>(16),
                           .selectors = {0, 0},
                           .scales = {0}};
  Matrix<float> out(1, 16);
  dequantize(tensor, codebooks, 0, 1, out);
  for (std::size_t c = 0; c < 16; ++c) EXPECT_FALSE(std::signbit(out(0, c)) || out(0, c) != 0);
}

// fp32's rounding: one for each array's fma, two products at the end.
TEST(Lobcq, MultiplyAgreesWithTheProductOfDecodedMatrices) {
  for (const LobcqLayout& layout :
       {LobcqLayout{64, 8, 8}, LobcqLayout{16, 2, 4}, LobcqLayout{128, 4, 16}}) {
    const Codebooks input_books = random_codebooks(layout, 3),
                    weight_books = random_codebooks(layout, 4);
    LobcqTensor inputs = random_lobcq(layout, 6, 300, 5), weights = random_lobcq(layout, 7, 300, 6);
    inputs.tensor_scale = 0.37f;
    Matrix<float> x(6, 300), w(7, 300), out(6, 7);
    dequantize(inputs, input_books, 0, 6, x);
    dequantize(weights, weight_books, 0, 7, w);
    multiply(inputs, input_books, weights, weight_books, out);
    for (std::size_t t = 0; t < 6; ++t) {
      for (std::size_t o = 0; o < 7; ++o) {
        double sum = 0, magnitude = 0;
        for (std::size_t c = 0; c < 300; ++c) {
          sum += static_cast<double>(x(t, c)) * w(o, c);
          magnitude += std::abs(static_cast<double>(x(t, c)) * w(o, c));
        }
        EXPECT_NEAR(out(t, o), sum,
                    magnitude * static_cast<double>(layout.arrays(300) + 4) * 0x1p-23);
      }
    }
  }
}

}  // namespace
}  // namespace neap
