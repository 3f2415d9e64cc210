#include "codec/gguf_blocks.h"

#include <gtest/gtest.h>

#include <cstring>

#include "codec/random_gguf.h"
#include "io/dequantize.h"

namespace neap {
namespace {

constexpr DType kTypes[] = {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0,
                            DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl};

// io/dequantize is held against the `gguf` package, bit for bit, by golden files.
TEST(GgufBlocks, TheReaderFindsTheValuesThatWereMeantBitForBit) {
  for (const DType type : kTypes) {
    const GgufTensor tensor = random_gguf({type}, 37, 512, 1);
    const std::vector<std::byte> bytes = encode_gguf_blocks(tensor);
    EXPECT_EQ(bytes.size(), 37 * 512 / block_elements(type) * block_bytes(type));
    Matrix<float> meant(37, 512), read(37, 512);
    dequantize(tensor, 0, 37, meant);
    dequantize_blocks(type, bytes.data(), read.data(), 37 * 512);
    EXPECT_EQ(std::memcmp(meant.data(), read.data(), 37 * 512 * sizeof(float)), 0) << name_of(type);
    EXPECT_EQ(bits_per_weight(tensor.layout, 37, 512), 8.0 * static_cast<double>(bytes.size()) / (37 * 512));
  }
}

TEST(GgufBlocks, RowsCanBeHadOneByOne) {
  const GgufTensor tensor = random_gguf({DType::q6_k}, 5, 256, 2);
  Matrix<float> all(5, 256), some(2, 256);
  dequantize(tensor, 0, 5, all);
  dequantize(tensor, 3, 2, some);
  EXPECT_EQ(std::memcmp(all.row(3), some.data(), 2 * 256 * sizeof(float)), 0);
}

TEST(GgufBlocks, DecodingIsTheReverseOfEncoding) {
  for (const DType type : {DType::q4_0, DType::q8_0}) {
    const GgufTensor tensor = random_gguf({type}, 7, 96, 5);
    EXPECT_EQ(decode_gguf_blocks(tensor.layout, encode_gguf_blocks(tensor), 7, 96), tensor) << name_of(type);
  }
}

TEST(GgufBlocksDeathTest, WhatABlockCannotHoldIsABrokenPromise) {
  GgufTensor code = random_gguf({DType::q4_0}, 2, 32, 3), scale = code, minima = code;
  GgufTensor sub_scale = random_gguf({DType::q4_k}, 1, 256, 4), sub_minimum = sub_scale;
  code.codes[5] = 16;
  scale.scales[1] = 0.1f;  // between two fp16 numbers
  minima.minima = {0, 0};
  sub_scale.sub_scales[3] = -1;
  sub_minimum.sub_minima[7] = 64;
  for (const GgufTensor& tensor : {code, scale, minima, sub_scale, sub_minimum}) EXPECT_DEATH(encode_gguf_blocks(tensor), "");
}

}  // namespace
}  // namespace neap
