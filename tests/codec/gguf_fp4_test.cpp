#include "codec/gguf_fp4.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "codec/fp4_support.h"
#include "io/dequantize.h"

namespace neap {
namespace {

constexpr std::int64_t kRows = 23, kCols = 192;

// The layouts, with a global scale as a GGUF has it.
Fp4Tensor some_tensor(BlockScaled format, std::uint32_t seed) {
  Fp4Tensor tensor = random_fp4_of_all_scales({format}, kRows, kCols, seed);
  if (format == BlockScaled::nvfp4) tensor.global_scale = 1024;
  return tensor;
}

// io/dequantize is held against the `gguf` package, bit for bit, by golden files.
TEST(GgufFp4, TheReaderFindsTheValuesThatWereMeantBitForBit) {
  for (const BlockScaled format : {BlockScaled::mxfp4, BlockScaled::nvfp4}) {
    const Fp4Tensor tensor = some_tensor(format, 1);
    const DType type = gguf_type_of(tensor.layout);
    const std::vector<std::byte> bytes = encode_gguf_blocks(tensor);
    ASSERT_EQ(bytes.size(), kRows * kCols / block_elements(type) * block_bytes(type));
    EXPECT_EQ(8.0 * static_cast<double>(bytes.size()) / (kRows * kCols), bits_per_weight(tensor.layout, kRows, kCols));
    Matrix<float> meant(kRows, kCols), read(kRows, kCols);
    dequantize(tensor, 0, kRows, meant);
    dequantize_blocks(type, bytes.data(), read.data(), kRows * kCols);
    for (std::size_t i = 0; i < kRows * kCols; ++i) read.data()[i] *= gguf_matrix_scale(tensor);
    EXPECT_EQ(std::memcmp(meant.data(), read.data(), kRows * kCols * sizeof(float)), 0) << name_of(type);
  }
}

TEST(GgufFp4, DecodingIsTheReverseOfEncoding) {
  for (const BlockScaled format : {BlockScaled::mxfp4, BlockScaled::nvfp4}) {
    const Fp4Tensor tensor = some_tensor(format, 4);
    EXPECT_EQ(decode_gguf_blocks(tensor.layout, encode_gguf_blocks(tensor), kRows, kCols, gguf_matrix_scale(tensor)), tensor);
  }
}

TEST(GgufFp4, WhatOthersWriteIsDecodedOrLeft) {
  const Fp4Layout layout{BlockScaled::mxfp4};
  std::vector<std::byte> bytes(block_bytes(DType::mxfp4), std::byte{0x88});  // -0 everywhere, under 2^9
  const auto zeros = decode_gguf_blocks(layout, bytes, 1, 32, 1);
  ASSERT_TRUE(zeros);
  EXPECT_EQ(zeros->codes, std::vector<E2m1>(32, 0));
  bytes[0] = std::byte{255};
  EXPECT_FALSE(decode_gguf_blocks(layout, bytes, 1, 32, 1));  // no number
  const Fp4Tensor tensor = some_tensor(BlockScaled::nvfp4, 5);
  for (const float scale : {0.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_FALSE(decode_gguf_blocks(tensor.layout, encode_gguf_blocks(tensor), kRows, kCols, scale)) << scale;
  }
}

TEST(GgufFp4, TheGlobalScaleIsThePowerOfTwoBelowTheUsualOne) {
  for (const float largest : {1e-38f, 1e-6f, 0.0625f, 0.9999f, 1.0f, 5.25f, 2688.0f, 3e38f}) {
    const float usual = global_scale_of_maximum(largest), ours = gguf_global_scale(largest);
    int exponent = 0;
    EXPECT_EQ(std::frexp(ours, &exponent), 0.5f) << largest;
    EXPECT_LE(ours, usual) << largest;
    EXPECT_GT(2 * ours, usual) << largest;
    EXPECT_TRUE(usable_global_scale({BlockScaled::nvfp4}, ours)) << largest;
  }
  EXPECT_EQ(gguf_global_scale(0), 1);
}

TEST(GgufFp4DeathTest, RowsAreWholeBlocksAndPromisesKept) {
  Fp4Tensor code = some_tensor(BlockScaled::mxfp4, 2), scale = code;
  code.codes[3] = kE2m1Sign;
  scale.scales[0] = 255;
  const Fp4Tensor half = random_fp4({BlockScaled::nvfp4}, 1, 32, 3);  // of 64
  for (const Fp4Tensor& tensor : {code, scale, half}) EXPECT_DEATH(encode_gguf_blocks(tensor), "");
}

}  // namespace
}  // namespace neap
