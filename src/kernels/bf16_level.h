// Products of weights that are small integers with activations in bf16, W4A16 and its like, once
// per level of instructions. Per output, over blocks in ascending order, from 0,
//
//   sum = fma(dot of columns 4k, 4k + 2 of the block, w scale, sum)
//   sum = fma(dot of columns 4k + 1, 4k + 3, w scale, sum)
//
// and sum * factor, + bias where there is one. Each dot is a chain from 0 over k in ascending
// order, in which of the two columns the latter comes first, dot = fma(value, x, dot): what
// vdpbf16ps does with its pairs. Values have at most 8 bits and a sign, so that bf16 holds them and
// every product is exact before it is added; x is 0 or at least 2^-100 in magnitude, so that no
// number on the way is subnormal. All levels give the same bits. Seen by files that are compiled
// for one level alone: nothing here may become code.
#pragma once

#include "kernels/integer_level.h"

namespace neap {

using Bf16 = std::uint16_t;  // as in base/half.h, whose functions would become code

// Activations, a token a row: of every four columns in the order 0 2 1 3, 0 past the last one.
struct Bf16Tokens {
  const std::byte* values;  // Bf16, or the same numbers as fp32, as the level has them
  std::size_t stride;       // numbers a token
};

// Two panels of weights as bf16. Of a block first all columns 4k, 4k + 2, then all 4k + 1, 4k + 3:
// a vector of pairs for either panel.
struct Bf16Pair {
  std::size_t blocks, block;  // of a row; columns of one
  const Bf16* values;
  const float* scales;  // (blocks, 32)
  float factor;
};

struct Bf16Kernels {
  Isa isa;
  bool fp32_inputs;
  // Bf16Tokens of one token: to nearest even, 0 below 2^-100. Columns from `count` to the next
  // multiple of four are 0.
  void (*round)(const float* x, std::size_t count, std::byte* to);
  // Decoded weights, value - zero or value - offset, as they stand in Bf16Pair.
  void (*widen)(const IntegerPair& pair, int offset, Bf16* to);
  void (*many)(const Bf16Pair& pair, const Bf16Tokens& x, std::size_t tokens,
               const KernelOutput& out);
  // Goes on with the sums (tokens, 16) of a first panel, as yet without factor and bias, over the
  // pair's blocks, which are those that x begins with. At most kFewTokens tokens.
  void (*few)(const IntegerPair& pair, int offset, const Bf16Tokens& x, std::size_t tokens,
              float* sums);
};

// The fastest kernels that need no more than `isa`.
const Bf16Kernels& bf16_kernels(Isa isa);

}  // namespace neap
