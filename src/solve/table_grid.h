// Grids whose points are entries of tables: LO-BCQ with its codebooks, and, with one table, NVFP4, MXFP4 and
// whatever else has sixteen points to a scale.
//
//   w^ = scale entry      an array of inputs shares a scale, a block of inputs names one table
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "neap/matrix.h"

namespace neap {

inline constexpr std::size_t kTableEntries = 16;
using Table = std::array<float, kTableEntries>;  // ascending, equal entries allowed

struct TableLayout {
  std::size_t array = 64, block = 8;  // inputs; a block never crosses arrays: block divides array
  std::vector<Table> tables;          // at least 1, at most 256
  std::vector<float> scales;          // all that can be stored, ascending, positive
  bool mirrored = false;              // whether a scale may also be stored with a minus

  std::size_t arrays(std::size_t cols) const { return (cols + array - 1) / array; }
  std::size_t blocks(std::size_t cols) const { return (cols + block - 1) / block; }
};

// A layer's choices, by row.
struct TableTensor {
  Matrix<std::uint8_t> codes;      // (rows, cols): index of an entry, the lowest of equal ones
  Matrix<std::uint8_t> selectors;  // (rows, blocks): index of a table
  Matrix<std::int32_t> scales;     // (rows, arrays): 1 + index into TableLayout::scales, negative: mirrored, 0: all is 0
};

// The value of a scale as TableTensor has it.
inline float scale_value(const TableLayout& layout, std::int32_t scale) {
  if (scale == 0) return 0;
  return scale > 0 ? layout.scales[scale - 1] : -layout.scales[-scale - 1];
}

// The scale of every array: least sum of importance_i (w_i - w^_i)^2 over the scales (of both signs, where mirrored)
// from half of the one that takes the array's largest value to the tables' largest entry to a little more than the one
// that takes it to the entry before, each block rounded to its best table.
// weight: (rows, cols), finite; importance: cols weights >= 0, or empty: all 1. Returns (rows, arrays). Parallel.
Matrix<std::int32_t> search_scales(MatrixView<const float> weight, const TableLayout& layout,
                                   std::span<const float> importance);

// Every block to the table and the entries of least squared error, ties to the lower of both. scales: as
// search_scales returns them. Parallel.
TableTensor round_to_tables(MatrixView<const float> weight, const TableLayout& layout, const Matrix<std::int32_t>& scales,
                            std::span<const float> importance);

// Rows [first, first + out.rows) as float(scale) * entry. out: (any, cols).
void dequantize(const TableTensor& tensor, const TableLayout& layout, std::size_t first, MatrixView<float> out);

}  // namespace neap
