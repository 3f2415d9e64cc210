// Sums of products over tokens, C += A'B, from bf16: what second moments are made of. The matrices are stored as the
// CPU's dot product of bf16 pairs wants them, once, and every tile of C then reads them as they lie. For machines that
// multiply bf16 at all (bf16_operand() == Operand::bf16), which means AVX512-BF16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/buffer.h"
#include "neap/matrix.h"

namespace neap {

// A (tokens, columns) matrix rounded to bf16, to nearest even. Panels of 16 columns; in a panel, for each pair of
// tokens 2t, 2t + 1, 16 lanes of 32 bits: the even token's value below, the odd one's above. Filled up
// with zeros to whole panels and pairs.
class TokenPairs {
 public:
  static constexpr std::size_t kLanes = 16;

  explicit TokenPairs(MatrixView<const float> values);  // parallel inside

  std::size_t columns() const { return columns_; }
  std::size_t pairs() const { return pairs_; }
  std::size_t panels() const { return (columns_ + kLanes - 1) / kLanes; }
  const std::uint32_t* panel(std::size_t index) const { return lanes_ + index * pairs_ * kLanes; }

 private:
  void fill(MatrixView<const float> values, std::size_t panel);

  std::size_t columns_, pairs_;
  Buffer buffer_;
  std::uint32_t* lanes_;
};

// The size of the tiles of C that are fast to compute.
inline constexpr std::size_t kPairTileRows = 96, kPairTileCols = 48;

// c(i, j) += sum over tokens of a(token, i) b(token, j) for i in [row, row + kPairTileRows), j in [col, col + kPairTileCols), as
// far as they exist. row and col: multiples of 16. c: (a.columns(), b.columns()). fp32 sums in the order of
// tokens, whatever the tile: the bits of c do not depend on how it is cut. Runs on the calling thread.
void add_pair_product(const TokenPairs& a, const TokenPairs& b, std::size_t row, std::size_t col, MatrixView<float> c);

}  // namespace neap
