// Activations rounded to 8 bits, for products in integers with weights of fewer bits. In a block of
// columns with largest magnitude m, in fp32,
//
//   d = m / 127,  q = rint(x * (127 / m))     to nearest even; q in [-127, 127]
//   d = 0,        q = 0                       where m < 2^-100
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/buffer.h"
#include "kernels/integer_level.h"
#include "neap/matrix.h"

namespace neap {

// How weights want their activations.
struct Int8Blocks {
  std::size_t block;  // columns that share a scale: 16, 32, 64 or 128
  int offset;         // of the weights' bytes: what `starts` of IntegerTokens are made for

  bool operator==(const Int8Blocks&) const = default;
};

// Memory is kept between calls of round.
class Int8Inputs {
 public:
  // x: (tokens, cols). Throws Error(data) for a NaN or infinity. Parallel inside.
  void round(const Int8Blocks& blocks, MatrixView<const float> x, Isa isa = default_isa());

  std::size_t tokens() const { return tokens_; }
  std::size_t cols() const { return cols_; }
  const Int8Blocks& blocks() const { return blocks_; }
  // From token `first` on, without factors.
  IntegerTokens view(std::size_t first) const;

 private:
  std::size_t tokens_ = 0, cols_ = 0, count_ = 0;  // blocks of a token
  Int8Blocks blocks_{};
  Buffer entries_, scales_, starts_;
};

}  // namespace neap
