// A linear layer as the forward pass sees it. Dense, simulated and packed layers all implement this.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

class Linear {
 public:
  virtual ~Linear() = default;
  virtual std::size_t in() const = 0;
  virtual std::size_t out() const = 0;
  // y = x W' + bias. x: (rows, in), y: (rows, out). Parallel inside, in fixed tiles: the bits of a row
  // depend neither on the thread count nor on what other rows stand in the batch.
  virtual void apply(MatrixView<const float> x, MatrixView<float> y) const = 0;
};

// weight: (out, in), copied (and, for bf16, rounded to nearest even). bias: out values or empty.
std::unique_ptr<Linear> make_dense_linear(MatrixView<const float> weight, std::span<const float> bias,
                                          Precision precision);

}  // namespace neap
