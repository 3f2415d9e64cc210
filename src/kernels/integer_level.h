// What LO-BCQ's and group integers' kernels share: bytes of weights times bytes of activations,
// summed over blocks as integers, and a scale per block outside of that loop. Per output, over
// blocks in ascending order,
//
//   sum = fma(float(dot), x scale * w scale, sum)      from 0; the product rounded once
//
// and sum * factor, where tokens have one, then + bias, where there is one. All levels give the
// same bits. Seen by files that are compiled for one level alone: nothing here may become code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace neap {

// Weights come in panels of 16 rows: a row in each 32-bit lane of a 64-byte vector, four
// neighbouring columns in its bytes.
inline constexpr std::size_t kPanelRows = 16, kPairRows = 2 * kPanelRows;
inline constexpr std::size_t kVectorBytes = 64;
inline constexpr std::size_t kFewTokens = 4;  // at most so many are done by decoding in registers

// Activations, a token a row.
struct IntegerTokens {
  const std::int8_t* entries;  // `stride` bytes a token, 0 past the last column
  std::size_t stride;          // blocks * columns of a block
  const float* scales;         // (tokens, blocks)
  const std::int32_t* starts;  // (tokens, blocks): less `offset` times the block's sum of entries
  const float* factors;        // (tokens), or null
};

// y(t, r) = result + bias[r].
struct KernelOutput {
  float* y;
  std::size_t stride;
  std::size_t rows;   // that exist, of the panel or pair
  const float* bias;  // null: none
};

// Of a row.
struct BlockRange {
  std::size_t first, count;
};

// Two panels of weights, decoded: weight = scale (value - offset), or scale (value - zero) where
// there are zeros.
struct IntegerPair {
  std::size_t blocks, block;   // of a row; columns of one
  const std::uint8_t* values;  // for each four columns a vector of either panel
  const float* scales;         // (blocks, 32)
  const float* zeros;          // (blocks, 32); null: the offset is in `starts` alone
  bool wide;                   // values above 63
};

struct IntegerKernels {
  Isa isa;
  // Where there are zeros, a weight's zero is multiplied by the start of offset 1.
  void (*many)(const IntegerPair& pair, const IntegerTokens& x, std::size_t tokens,
               const KernelOutput& out);
  // Of one token. block: a multiple of 16, at most 128.
  void (*starts)(const std::int8_t* entries, std::size_t blocks, std::size_t block, int offset,
                 std::int32_t* starts);
};

// The fastest kernels that need no more than `isa`.
const IntegerKernels& integer_kernels(Isa isa);

}  // namespace neap
