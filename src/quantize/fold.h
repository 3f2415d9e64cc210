// Factors moved from a layer's inputs into what makes them: a norm or the layer before.
#pragma once

#include <span>
#include <vector>

#include "neap/matrix.h"

namespace neap {

// weight(r, c) *= scales[c]: what reads inputs that were divided by `scales`.
inline void scale_columns(MatrixView<float> weight, std::span<const float> scales) {
  for (std::size_t r = 0; r < weight.rows; ++r) {
    for (std::size_t c = 0; c < weight.cols; ++c) weight(r, c) *= scales[c];
  }
}

// weight(r, c) /= scales[r]: what makes outputs divided by `scales`.
inline void divide_rows(MatrixView<float> weight, std::span<const float> scales) {
  for (std::size_t r = 0; r < weight.rows; ++r) {
    for (std::size_t c = 0; c < weight.cols; ++c) weight(r, c) /= scales[r];
  }
}

// A norm's weights or a bias.
inline void divide(std::vector<float>& values, std::span<const float> scales) {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] /= scales[i];
}

}  // namespace neap
