// The grid that a row's codes stand on: one scale and one zero point per group, chosen before the codes
// and exactly as they will be stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "neap/codec.h"
#include "neap/matrix.h"

namespace neap {

// w^ = scale (code - zero), code in [0, 2^bits). By row and group.
struct Grid {
  GroupLayout layout;
  std::size_t cols = 0;
  Matrix<float> scales;  // > 0, exact in bf16 and in fp16
  Matrix<float> zeros;   // integers in [0, 2^bits)

  std::size_t group_width() const;  // inputs per group, the last group apart
  int highest() const { return (1 << layout.bits) - 1; }
};

enum class GridSearch {
  range,     // smallest and largest weight of the group
  weighted,  // least sum of importance_i (w_i - w^_i)^2 over shrunk ranges and shifted zeros
};

// Room for a layer's scales and zeros, all 0. Throws Error(argument) for a layout out of range.
Grid empty_grid(const GroupLayout& layout, std::size_t rows, std::size_t cols);

// The nearest value with at most 8 significant bits in fp16's normal range: it is then exact in fp16 and
// in bf16, so that a file of either kind holds the grid that was solved on. value: finite, >= 0.
float portable_scale(float value);

// weight: (rows, cols), finite. importance: cols weights >= 0 of the squared error, or empty: all 1.
// An asymmetric range always has 0 inside. A group of zeros gets the smallest scale. Parallel over rows.
Grid make_grid(MatrixView<const float> weight, const GroupLayout& layout, GridSearch search,
               std::span<const float> importance = {});

}  // namespace neap
