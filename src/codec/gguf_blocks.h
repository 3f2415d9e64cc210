// Weights in the block types of GGUF, as fields and as bytes. The layouts, byte by byte: docs/formats/gguf.md;
// the arithmetic is that of io/dequantize.h, operation by operation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "neap/codec.h"
#include "neap/matrix.h"

namespace neap {

// A row is a whole number of blocks of block_elements(layout.type). With n a code, d its block's scale, m its
// minimum, s and u the scale and minimum of its group within the block, a weight is
//   Q4_0, Q5_0, Q8_0   d (n - 8), d (n - 16), d (n - 128)
//   Q4_1, Q5_1         d n + m
//   Q3_K, Q6_K         (d s) (n - 4), (d s) (n - 32)
//   Q2_K, Q4_K, Q5_K   (d s) n - m u
//   IQ4_NL             d T[n], T the table of base/iq4_nl.h
struct GgufTensor {
  GgufLayout layout;
  std::int64_t rows = 0, cols = 0;
  std::vector<std::uint8_t> codes;       // (rows, cols), each below 2^bits
  std::vector<float> scales;             // (rows, blocks), exact in fp16, finite, of either sign
  std::vector<float> minima;             // (rows, blocks), exact in fp16, finite; if has_minima, else empty
  // (rows, cols / sub_group(layout)), of the K types, else empty: s within sub_scale_range, u from 0 to the same end.
  std::vector<std::int8_t> sub_scales;
  std::vector<std::uint8_t> sub_minima;  // of those that have minima, else empty

  bool operator==(const GgufTensor&) const = default;
};

// Bits of a code; 0 where GgufTensor does not hold the type.
int code_bits(const GgufLayout& layout);
bool has_minima(const GgufLayout& layout);
// Inputs under one sub-scale: 16, or 32 with Q4_K and Q5_K; 0 where a type has none.
std::int64_t sub_group(const GgufLayout& layout);
// Smallest and largest sub-scale; {0, 0} where a type has none.
std::pair<int, int> sub_scale_range(const GgufLayout& layout);

// The rows one after another, as they lie in a file. NEAP_CHECKs every promise of GgufTensor.
std::vector<std::byte> encode_gguf_blocks(const GgufTensor& tensor);

// The reverse for Q4_0 and Q8_0, which other programs write too: scales may be no numbers. bytes: whole rows.
GgufTensor decode_gguf_blocks(const GgufLayout& layout, std::span<const std::byte> bytes, std::int64_t rows, std::int64_t cols);

// Rows [first, first + count). out: (count, cols).
void dequantize(const GgufTensor& tensor, std::int64_t first, std::int64_t count, MatrixView<float> out);

double bits_per_weight(const GgufLayout& layout, std::int64_t rows, std::int64_t cols);

}  // namespace neap
