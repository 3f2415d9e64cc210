// Products of packed LO-BCQ weights with activations that are encoded on the way in, W4A4, or
// rounded to 8 bits, W4A8.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "codec/lobcq_encode.h"
#include "kernels/lobcq_packed.h"
#include "kernels/product.h"
#include "neap/matrix.h"

namespace neap {

// Activations in LO-BCQ's format as integers. Memory is kept between calls of encode.
class LobcqInputs {
 public:
  // x: (tokens, cols). tensor_scale: for all tokens; without, each has tensor_scale_for its largest
  // magnitude. Throws Error(data) for a NaN or infinity. Parallel inside.
  void encode(const LobcqEncoder& encoder, std::optional<float> tensor_scale, ScaleChoice choice,
              MatrixView<const float> x, Isa isa = default_isa());

  std::size_t tokens() const { return tokens_; }
  std::size_t cols() const { return cols_; }
  const LobcqLayout& layout() const { return layout_; }
  // From token `first` on; the factors are the inputs' tensor scales.
  IntegerTokens view(std::size_t first) const;

 private:
  std::size_t tokens_ = 0, cols_ = 0, arrays_ = 0, stride_ = 0;
  LobcqLayout layout_;
  Buffer entries_, scales_, starts_, tensor_scales_;
};

// y = multiply(x, weights) + bias, each product, with the bits that multiply() of codec/lobcq.h
// gives, at every level of instructions; the bias is added after the last rounding of that. The
// inputs' block_array and cols are the weights' (NEAP_CHECK). Parallel inside, over all products at
// once; the bits of a token do not depend on the others.
void multiply(std::span<const Product<PackedLobcq>> products, const LobcqInputs& x,
              Isa isa = default_isa());

// The same with activations of 8 bits, in the weights' int8_blocks (NEAP_CHECK): over block arrays
// in ascending order, sum = fma(float(dot product of q and the entries), d * weight scale, sum),
// from 0; then sum * weight tensor scale, + bias.
void multiply(std::span<const Product<PackedLobcq>> products, const Int8Inputs& x,
              Isa isa = default_isa());

}  // namespace neap
