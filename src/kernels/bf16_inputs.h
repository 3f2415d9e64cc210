// Activations rounded to bf16, for products with weights that stay integers (kernels/bf16_level.h).
#pragma once

#include <cstddef>

#include "base/buffer.h"
#include "kernels/bf16_level.h"
#include "neap/matrix.h"

namespace neap {

// Memory is kept between calls of round.
class Bf16Inputs {
 public:
  // x: (tokens, cols), to nearest even; magnitudes below 2^-100 become 0, NaN stays NaN. block: of
  // the weights: rows are filled up to whole ones. Parallel inside.
  void round(std::size_t block, MatrixView<const float> x, Isa isa = default_isa());

  std::size_t tokens() const { return tokens_; }
  std::size_t cols() const { return cols_; }
  // What a product has to be told again.
  std::size_t block() const { return block_; }
  Isa isa() const { return isa_; }
  // From a token and a column, a multiple of `block`, on.
  Bf16Tokens view(std::size_t token, std::size_t column = 0) const;

 private:
  std::size_t tokens_ = 0, cols_ = 0, block_ = 1, stride_ = 0, bytes_ = 0;  // of a number
  Isa isa_ = Isa::scalar;
  Buffer values_;
};

}  // namespace neap
