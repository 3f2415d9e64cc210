// One of the products that the same inputs go into.
#pragma once

#include <span>

#include "neap/matrix.h"

namespace neap {

// y = x W' + bias. y: (tokens, rows); bias: as many values as rows, or none.
template <class Packed>
struct Product {
  const Packed* weights;
  std::span<const float> bias;
  MatrixView<float> y;
};

// A product by itself.
template <class Packed, class Inputs, class... Level>
  requires requires(const Packed& weights) { weights.panels(); }
void multiply(const Packed& weights, const Inputs& x, std::span<const float> bias,
              MatrixView<float> y, Level... isa) {
  const Product<Packed> product{&weights, bias, y};
  multiply(std::span<const Product<Packed>>(&product, 1), x, isa...);
}

}  // namespace neap
