// Quantized tensors in memory, independent of any file: codes, scales, zero points, and the arithmetic
// that turns them back into weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "neap/codebooks.h"
#include "neap/matrix.h"
#include "neap/tensor.h"

namespace neap {

// A uniform integer grid per group of consecutive inputs of a row: weight = scale (code - zero).
struct GroupLayout {
  int bits = 4;                     // 1 .. 8
  std::int64_t group = 128;         // inputs that share a scale; 0: the whole row
  bool symmetric = true;            // zero is 2^(bits-1) everywhere and not stored
  DType scale_type = DType::bf16;   // f16, bf16 or f32, as stored

  // Groups per row of `cols` inputs; the last one is shorter where `group` does not divide.
  std::int64_t groups(std::int64_t cols) const;
  bool operator==(const GroupLayout&) const = default;
};

// 4-bit formats that hardware multiplies: a group of consecutive values shares a scale
// (docs/formats/block-scaled.md).
enum class BlockScaled {
  nvfp4,  // E2M1 in groups of 16 under E4M3 scales, under one fp32 scale of the tensor
  mxfp4,  // E2M1 in groups of 32 under powers of two (E8M0)
  int4,   // integers in [-8, 7] in groups of 64 or 128; as weights they are a GroupLayout
};
std::string name_of(BlockScaled format);  // "NVFP4"

// Weights in 4-bit floats: NVFP4 or MXFP4.
struct Fp4Layout {
  BlockScaled format = BlockScaled::nvfp4;  // never int4

  std::int64_t group() const { return format == BlockScaled::nvfp4 ? 16 : 32; }
  // Groups per row of `cols` inputs, which the group divides.
  std::int64_t groups(std::int64_t cols) const { return cols / group(); }
  bool operator==(const Fp4Layout&) const = default;
};

// A block type of GGUF (docs/formats/gguf.md): Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, Q2_K to Q6_K, MXFP4 or NVFP4.
struct GgufLayout {
  DType type = DType::q4_0;
  bool operator==(const GgufLayout&) const = default;
};

// How llama-quantize composes a file of block types, by its names (MXFP4 and NVFP4 it only loads). The numbers are those of
// general.file_type.
enum class GgufMix : std::uint32_t {
  q4_0 = 2, q4_1 = 3, q8_0 = 7, q5_0 = 8, q5_1 = 9,
  q2_k = 10, q3_k_s = 11, q3_k_m = 12, q3_k_l = 13, q4_k_s = 14, q4_k_m = 15, q5_k_s = 16, q5_k_m = 17, q6_k = 18, q2_k_s = 21,
  iq4_nl = 25, mxfp4 = 38, nvfp4 = 39,
};

// On which grid a linear layer's weights lie.
using WeightLayout = std::variant<GroupLayout, LobcqLayout, Fp4Layout, GgufLayout>;
// "4 bits, groups of 64, symmetric"
std::string words_for(const WeightLayout& layout);

struct QuantizedTensor {
  GroupLayout layout;
  std::int64_t rows = 0, cols = 0;
  std::vector<std::uint8_t> codes;  // (rows, cols), each in [0, 2^bits)
  std::vector<float> scales;        // (rows, groups), each exact in layout.scale_type, finite, > 0
  std::vector<std::uint8_t> zeros;  // (rows, groups), each in [0, 2^bits); empty when symmetric

  bool operator==(const QuantizedTensor&) const = default;
};

// Rows [first, first + count) as float(scale) * float(code - zero), one fp32 rounding.
// out: (count, cols).
void dequantize(const QuantizedTensor& tensor, std::int64_t first, std::int64_t count,
                MatrixView<float> out);

// Bits that codes, scales and zero points take in the packed file, per weight, from the layout.
double bits_per_weight(const GroupLayout& layout, std::int64_t rows, std::int64_t cols);

}  // namespace neap
