#include "codec/regrid.h"

#include <gtest/gtest.h>

#include "codec/random_gguf.h"
#include "codec/random_tensor.h"

namespace neap {
namespace {

Multiples multiples_of(const QuantizedTensor& tensor) {
  const auto rows = static_cast<std::size_t>(tensor.rows), cols = static_cast<std::size_t>(tensor.cols);
  const auto groups = static_cast<std::size_t>(tensor.layout.groups(tensor.cols));
  Multiples from{Matrix<float>(rows, cols), Matrix<float>(rows, groups), tensor.layout.group == 0 ? tensor.cols : tensor.layout.group};
  dequantize(tensor, 0, tensor.rows, from.values);
  std::copy(tensor.scales.begin(), tensor.scales.end(), from.scales.data());
  return from;
}

Multiples multiples_of(const GgufTensor& tensor) {
  const auto rows = static_cast<std::size_t>(tensor.rows), cols = static_cast<std::size_t>(tensor.cols);
  Multiples from{Matrix<float>(rows, cols), Matrix<float>(rows, cols / 32), 32};
  dequantize(tensor, 0, tensor.rows, from.values);
  std::copy(tensor.scales.begin(), tensor.scales.end(), from.scales.data());
  return from;
}

template <class Tensor>
void expect_same_values(const Multiples& from, const Tensor& tensor) {
  Matrix<float> values(from.values.rows(), from.values.cols());
  dequantize(tensor, 0, tensor.rows, values);
  for (std::size_t i = 0; i < values.rows() * values.cols(); ++i) ASSERT_EQ(values.data()[i], from.values.data()[i]) << i;
}

// Which of GGUF's types hold integers of so many bits: 8 and fewer without, 4 and fewer with zero points wherever they are.
TEST(Regrid, IntegersGoIntoTheSmallestBlocksThatHoldThem) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool symmetric : {true, false}) {
      for (const std::int64_t group : {32, 64, 0}) {
        const GroupLayout layout{bits, group, symmetric, DType::f16};
        const QuantizedTensor tensor = random_tensor(layout, 6, 128, 3);
        const Multiples from = multiples_of(tensor);
        for (const DType type : exact_block_types()) {
          const auto blocks = exact_blocks(from, type);
          const int have = type == DType::q8_0 ? 8 : type == DType::q5_0 || type == DType::q5_1 ? 5 : 4;
          const int need = bits + (symmetric ? 0 : 1);  // with zero points at either end
          if (has_minima(GgufLayout{type})) {
            if (bits > have) {
              EXPECT_FALSE(blocks) << bits;
            }
          } else {
            EXPECT_EQ(blocks.has_value(), need <= have) << bits << symmetric << group << name_of(type);
          }
          if (!blocks) continue;
          expect_same_values(from, *blocks);
          EXPECT_EQ(encode_gguf_blocks(*blocks).size(), 6 * 4 * block_bytes(type));
        }
      }
    }
  }
}

TEST(Regrid, GroupsThatNoBlockDividesAndScalesThatFp16HasNotAreRefused) {
  const auto blocks_of = [](const GroupLayout& layout, float factor) {
    QuantizedTensor tensor = random_tensor(layout, 2, 96, 1);
    for (float& scale : tensor.scales) scale *= factor;
    return exact_blocks(multiples_of(tensor), DType::q8_0);
  };
  EXPECT_TRUE(blocks_of({4, 32, true, DType::f16}, 1));
  EXPECT_FALSE(blocks_of({4, 16, true, DType::f16}, 1));
  EXPECT_FALSE(blocks_of({4, 48, true, DType::f16}, 1));
  EXPECT_FALSE(blocks_of({4, 32, true, DType::f16}, 1 + 0x1p-13f));
  EXPECT_FALSE(blocks_of({4, 32, true, DType::f16}, 0x1p-40f));
}

TEST(Regrid, BlocksOfOneScaleBecomeIntegersUnderZeroPoints) {
  for (const DType type : {DType::q4_0, DType::q5_0, DType::q8_0, DType::iq4_nl}) {
    const GgufTensor tensor = random_gguf({type}, 5, 96, 7);
    const Multiples from = multiples_of(tensor);
    const int bits = type == DType::iq4_nl ? 8 : code_bits({type});
    const auto groups = exact_groups(from, {bits, 32, false, DType::f16});
    ASSERT_TRUE(groups) << name_of(type);
    expect_same_values(from, *groups);
    EXPECT_FALSE(exact_groups(from, {bits - 1, 32, false, DType::f16})) << name_of(type);
    EXPECT_FALSE(exact_groups(from, {bits, 32, false, DType::bf16})) << name_of(type);  // scales of 11 bits
  }
}

TEST(Regrid, WithoutZeroPointsTheFullRangeMustNotBeTurnedAround) {
  Multiples from{Matrix<float>(1, 32), Matrix<float>(1, 1), 32};
  const auto fill = [&](float scale, int low) {
    from.scales(0, 0) = scale;
    for (int i = 0; i < 32; ++i) from.values(0, static_cast<std::size_t>(i)) = scale * static_cast<float>(low + i % 16);
  };
  const GroupLayout symmetric{4, 32, true, DType::f16}, asymmetric{4, 32, false, DType::f16};
  fill(0.5f, -8);
  EXPECT_TRUE(exact_groups(from, symmetric));
  fill(-0.5f, -8);  // from -7 to 8 halves
  EXPECT_FALSE(exact_groups(from, symmetric));
  ASSERT_TRUE(exact_groups(from, asymmetric));
  EXPECT_EQ(exact_groups(from, asymmetric)->zeros[0], 7);
  fill(0.5f, -15);
  EXPECT_EQ(exact_groups(from, asymmetric)->zeros[0], 15);
  fill(0.5f, 1);  // 0 must be a code too
  EXPECT_FALSE(exact_groups(from, asymmetric));
}

TEST(Regrid, AGroupOfZerosHasAnyScale) {
  const Multiples zeros{Matrix<float>(2, 64), Matrix<float>(2, 2), 32};
  const auto groups = exact_groups(zeros, {4, 32, true, DType::bf16});
  ASSERT_TRUE(groups);
  expect_same_values(zeros, *groups);
  for (const DType type : exact_block_types()) {
    const auto blocks = exact_blocks(zeros, type);
    ASSERT_TRUE(blocks);
    expect_same_values(zeros, *blocks);
  }
}

TEST(Regrid, WhatIsNoMultipleIsRefused) {
  Multiples from{Matrix<float>(1, 32), Matrix<float>(1, 1), 32};
  from.scales(0, 0) = 0.25f;
  from.values(0, 5) = 0.25f * 1.5f;
  EXPECT_FALSE(exact_groups(from, {4, 32, false, DType::f16}));
  EXPECT_FALSE(exact_blocks(from, DType::q8_0));
  from.values(0, 5) = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(exact_groups(from, {4, 32, false, DType::f16}));
  from.scales(0, 0) = 0;
  from.values(0, 5) = 1;
  EXPECT_FALSE(exact_blocks(from, DType::q8_0));
}

}  // namespace
}  // namespace neap
