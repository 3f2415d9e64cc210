// Inputs in block-scaled formats, and INT4 weights.
#include "codec/block_scaled.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/half.h"
#include "codec/fp4.h"
#include "codec/group_int.h"
#include "support/expect_error.h"
#include "support/golden_file.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

using test::GoldenFile;

constexpr BlockScaled kFormats[] = {BlockScaled::nvfp4, BlockScaled::mxfp4, BlockScaled::int4};
constexpr const char* kKinds[] = {"usual", "ties", "wide", "tiny"};

GoldenFile golden(const std::string& kind) {
  return GoldenFile(std::string(NEAP_GOLDEN_DIR) + "/block_scaled/" + kind + ".safetensors");
}

// tests/golden/make_block_scaled_files.py
TEST(BlockScaled, InputsAreThoseOfCompressedTensors) {
  for (const char* kind : kKinds) {
    const GoldenFile file = golden(kind);
    auto values = file.values<float>("values");
    const MatrixView<const float> x(values.data(), values.size() / 128, 128);
    float low = 0, high = 0;
    for (const float v : values) low = std::min(low, v), high = std::max(high, v);
    for (const BlockScaled format : kFormats) {
      SCOPED_TRACE(std::string(kind) + " " + name_of(format));
      BlockScaledInputs inputs{format, usual_group(format)};
      if (format == BlockScaled::nvfp4) inputs.global_scale = global_scale_of_maximum(std::max(-low / 2, high / 2));
      Matrix<float> rounded(x.rows, x.cols);
      round_block_scaled(inputs, x, rounded);
      std::string name = name_of(format);
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      const auto expected = file.values<float>(name + ".inputs");
      for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(rounded.data()[i], expected[i]) << i;
    }
  }
}

TEST(BlockScaled, Int4WeightsAreThoseOfCompressedTensors) {
  for (const char* kind : kKinds) {
    const GoldenFile file = golden(kind);
    auto values = file.values<float>("values");
    const MatrixView<const float> weight(values.data(), values.size() / 128, 128);
    const QuantizedTensor tensor =
        round_to_int4(weight, {.bits = 4, .group = 64, .symmetric = true, .scale_type = DType::bf16});
    check_invariants(tensor);
    const auto codes = file.values<std::int8_t>("int4.codes");
    const auto scales = file.values<Bf16>("int4.scale");
    for (std::size_t i = 0; i < codes.size(); ++i) ASSERT_EQ(tensor.codes[i] - 8, codes[i]) << kind << " " << i;
    for (std::size_t i = 0; i < scales.size(); ++i) ASSERT_EQ(tensor.scales[i], bf16_to_float(scales[i])) << kind << " " << i;
    Matrix<float> decoded(weight.rows, weight.cols);
    dequantize(tensor, 0, tensor.rows, decoded);
    const auto expected = file.values<float>("int4.weights");
    for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(decoded.data()[i], expected[i]) << kind << " " << i;
  }
}

// A row of activations and a row of weights are rounded by the same rule.
TEST(BlockScaled, AnInputIsAWeightUnderTheSameGlobalScale) {
  const Matrix<float> x = random_matrix(7, 96, 3);
  for (const Fp4Layout layout : {Fp4Layout{BlockScaled::nvfp4}, Fp4Layout{BlockScaled::mxfp4}}) {
    const float global = layout.format == BlockScaled::nvfp4 ? 123.5f : 1.0f;
    BlockScaledInputs inputs{layout.format, layout.group()};
    if (layout.format == BlockScaled::nvfp4) inputs.global_scale = global;
    Matrix<float> rounded(7, 96), decoded(7, 96);
    round_block_scaled(inputs, x, rounded);
    dequantize(round_to_fp4(x, layout, global), 0, 7, decoded);
    EXPECT_TRUE(std::equal(rounded.data(), rounded.data() + 7 * 96, decoded.data()));
  }
}

TEST(BlockScaled, WithoutAGlobalScaleATokenHasItsOwn) {
  const Matrix<float> x = random_matrix(4, 32, 5);
  Matrix<float> together(4, 32), alone(1, 32);
  round_block_scaled({BlockScaled::nvfp4, 16}, x, together);
  for (std::size_t r = 0; r < 4; ++r) {
    float largest = 0;
    for (std::size_t c = 0; c < 32; ++c) largest = std::max(largest, std::abs(x(r, c)));
    round_block_scaled({BlockScaled::nvfp4, 16, global_scale_of_maximum(largest)}, x.view().row_range(r, 1), alone);
    EXPECT_TRUE(std::equal(alone.data(), alone.data() + 32, together.row(r)));
  }
}

TEST(BlockScaled, WhatIsNotFiniteIsNamedByRowAndColumn) {
  for (const BlockScaled format : kFormats) {
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      Matrix<float> x = random_matrix(3, 64, 1);
      x(2, 33) = bad;
      EXPECT_ERROR(round_block_scaled({format, usual_group(format)}, x, x), ErrorCode::data, "33");
    }
  }
}

TEST(BlockScaled, Int4ScalesAreExactInTheTypeThatStoresThem) {
  for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
    Matrix<float> weight = random_matrix(4, 128, 9);
    for (std::size_t c = 0; c < 64; ++c) weight(0, c) = 0, weight(1, c) *= 1e-12f, weight(2, c) *= 1e9f;
    check_invariants(round_to_int4(weight, {.bits = 4, .group = 64, .symmetric = true, .scale_type = type}));
  }
}

}  // namespace
}  // namespace neap
