// A linear layer as the forward pass sees it. Dense, simulated and packed layers all implement this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "linalg/matmul.h"
#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

// What running a layer takes at the least.
struct LinearCost {
  std::uint64_t bytes = 0;  // of weights, scales and bias: read once however many rows there are
  Arithmetic arithmetic = Arithmetic::f32;  // of its in * out products a row
};

class Linear;

struct LinearCall {
  const Linear* linear;
  MatrixView<float> y;
};

class Linear {
 public:
  virtual ~Linear() = default;
  virtual std::size_t in() const = 0;
  virtual std::size_t out() const = 0;
  // y = x W' + bias. x: (rows, in), y: (rows, out). Parallel inside, in fixed tiles: the bits of a row
  // depend neither on the thread count nor on what other rows stand in the batch.
  virtual void apply(MatrixView<const float> x, MatrixView<float> y) const = 0;
  virtual LinearCost cost() const = 0;

  // Whether `other` makes the same of the same x (rounds or encodes it alike) before it multiplies.
  virtual bool shares_inputs(const Linear&) const { return false; }
  // Layers that share this one's inputs, which are made once: each y with the bits of apply.
  virtual void apply_together(std::span<const LinearCall> calls, MatrixView<const float> x) const;
};

// Layers that read the same x, with the bits that each alone gives: together where they share what they
// make of it. Else a few rows go through whole layers side by side where threads are no more than layers:
// one region to wake threads for, not one a layer.
void apply_all(std::span<const LinearCall> calls, MatrixView<const float> x);

Arithmetic arithmetic_of(Operand type);

// weight: (out, in), copied (and, for bf16, rounded to nearest even). bias: out values or empty.
std::unique_ptr<Linear> make_dense_linear(MatrixView<const float> weight, std::span<const float> bias,
                                          Precision precision);

}  // namespace neap
