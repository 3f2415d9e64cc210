// Tensors in LO-BCQ's format and its arithmetic, which is part of the format: simulation and
// kernels of every level give the same bits. Byte by byte in docs/formats/lobcq.md; encoding in
// codec/lobcq_encode.h.
//
//   value(r, c) = float(entry) * (tensor_scale * scale)      entry = codebooks[selector][code]
//
// one E4M3 scale per block array, one selector per block, one 4-bit code per value. A scale's sign
// mirrors the codebooks of its array: eight codebooks are worth sixteen, at no cost, because
// whoever multiplies by a scale multiplies by its sign. Scale 0 means an array of zeros.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/minifloat.h"
#include "neap/codebooks.h"
#include "neap/matrix.h"

namespace neap {

// So that the product of two of them, times anything the format multiplies it by, is a normal fp32
// number.
inline constexpr float kSmallestTensorScale = 0x1p-60f, kLargestTensorScale = 0x1p60f;

struct LobcqTensor {
  LobcqLayout layout;
  std::int64_t rows = 0, cols = 0;
  std::vector<std::uint8_t> codes;  // (rows, cols), each in [0, 16); 0 in an array of zeros
  std::vector<std::uint8_t>
      selectors;             // (rows, blocks), each in [0, codebooks); 0 in an array of zeros
  std::vector<E4m3> scales;  // (rows, arrays), never NaN nor -0
  float tensor_scale = 1;    // in [2^-60, 2^60]

  // tensor_scale * scale, rounded to fp32 once; negative where the codebooks are mirrored.
  float scale(std::int64_t row, std::int64_t array) const {
    const auto at = static_cast<std::size_t>(row * layout.arrays(cols) + array);
    return tensor_scale * e4m3_to_float(scales[at]);
  }
  bool operator==(const LobcqTensor&) const = default;
};

// NEAP_CHECKs every promise of LobcqTensor.
void check_invariants(const LobcqTensor& tensor);
// As many codebooks as the layout has, each ascending and in range: NEAP_CHECK.
void check_codebooks(const LobcqLayout& layout, const Codebooks& codebooks);

// Rows [first, first + count). out: (count, cols); arrays of zeros become +0.
void dequantize(const LobcqTensor& tensor, const Codebooks& codebooks, std::int64_t first,
                std::int64_t count, MatrixView<float> out);

// inputs times weights', as kernels have to compute it. Per output, over block arrays in ascending
// order, sum = fma(float(integer dot product of the entries), input scale * weight scale, sum),
// from 0 (an E4M3 product is exact); then sum * (input tensor scale * weight tensor scale), each
// product rounded once. Both have the same block_array and cols. out: (inputs.rows, weights.rows).
// One thread, no haste: a judge.
void multiply(const LobcqTensor& inputs, const Codebooks& input_codebooks,
              const LobcqTensor& weights, const Codebooks& weight_codebooks, MatrixView<float> out);

// Bits that codes, selectors and array scales take in a file, per value, padding of rows included:
// 4 + log2(codebooks) / block + 8 / block_array where the sizes divide.
double bits_per_weight(const LobcqLayout& layout, std::int64_t rows, std::int64_t cols);

}  // namespace neap
