// The bytes of one super-block of 256 weights: the K types of GGUF. Layouts: docs/formats/gguf.md, after ggml-common.h
// of llama.cpp.
#pragma once

#include <cstdint>

#include "neap/tensor.h"

namespace neap {

// Fields as GgufTensor has them.
struct SuperBlock {
  const std::uint8_t* codes;       // 256
  float scale, minimum;            // minimum: of Q2_K, Q4_K and Q5_K
  const std::int8_t* sub_scales;   // 16, or 8 with Q4_K and Q5_K
  const std::uint8_t* sub_minima;  // as many, of Q2_K, Q4_K and Q5_K
};

// to: block_bytes(type). type: Q2_K, Q3_K, Q4_K, Q5_K or Q6_K.
void put_super_block(DType type, const SuperBlock& block, std::uint8_t* to);

}  // namespace neap
