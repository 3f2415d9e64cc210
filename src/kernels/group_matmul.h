// Products of integer codes in groups with activations rounded to 8 bits: the fast mode, W8A8 in
// its arithmetic and W2 to W4 in what is read.
//
// Activations are cut into blocks of the weights' groups, at most 128 columns (128 for whole rows).
// A block with largest magnitude m has, in fp32,
//
//   d = m / 127,  q = rint(x * (127 / m))     to nearest even; q in [-127, 127]
//   d = 0,        q = 0                       where m < 2^-100
//
// and a product is, per output, over the blocks in ascending order, from 0,
//
//   sum = fma(float(sum over the block of q (code - zero)), d * scale, sum)
//
// with an exact integer in the middle (below 2^23), d * scale rounded once; then + bias. Every
// level of instructions gives these bits.
#pragma once

#include <cstdint>
#include <span>

#include "base/buffer.h"
#include "kernels/group_packed.h"
#include "neap/matrix.h"

namespace neap {

// Activations for weights of one shape of groups. Memory is kept between calls of round.
class Int8Inputs {
 public:
  // x: (tokens, cols of the weights). Throws Error(data) for a NaN or infinity. Parallel inside.
  void round(const PackedGroupInt& weights, MatrixView<const float> x, Isa isa = default_isa());

  std::size_t tokens() const { return tokens_; }
  std::size_t cols() const { return cols_; }
  std::size_t block() const { return block_; }
  int offset() const { return offset_; }
  // From token `first` on.
  IntegerTokens view(std::size_t first) const;

 private:
  std::size_t tokens_ = 0, cols_ = 0, block_ = 0, blocks_ = 0;
  int offset_ = 0;
  Buffer entries_, scales_, starts_;
};

// y = x W' + bias as above. x: rounded for these weights, or others of their cols, bits, groups and
// symmetry (NEAP_CHECK). y: (tokens, rows); bias: as many values as rows, or none. Parallel inside;
// the bits of a token do not depend on the others.
void multiply(const PackedGroupInt& weights, const Int8Inputs& x, std::span<const float> bias,
              MatrixView<float> y, Isa isa = default_isa());

}  // namespace neap
