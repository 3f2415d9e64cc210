// Rows of a layer stood on end: a tile is (positions, rows), so that loops over rows vectorize and the
// work across positions is a matrix product.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "neap/matrix.h"
#include "solve/grid.h"

namespace neap {

// Rows that stand in one tile: fixed by the shape alone. Few rows make small tiles, for the threads' sake.
std::size_t rows_per_tile(std::size_t rows);

// out(p, r) = matrix(first + r, input_at[p]).
void load_tile(MatrixView<const float> matrix, std::size_t first,
               const std::vector<std::uint32_t>& input_at, MatrixView<float> out);

// The grid of a tile's rows. scale and zero: (groups, rows).
class TileGrid {
 public:
  TileGrid(const Grid& grid, std::size_t first, std::size_t rows,
           const std::vector<std::uint32_t>& input_at);

  std::size_t rows() const { return scales_.cols(); }
  float highest() const { return highest_; }
  // Of every row, at a position.
  const float* scale(std::size_t position) const { return scales_.row(group_at_[position]); }
  const float* zero(std::size_t position) const { return zeros_.row(group_at_[position]); }

 private:
  float highest_;
  std::vector<std::uint32_t> group_at_;
  Matrix<float> scales_, zeros_;
};

// codes(p, r) = the nearest code to values(p, r).
void round_tile(const TileGrid& grid, MatrixView<const float> values, MatrixView<std::uint8_t> codes);

// out(p, r) = values(p, r) - the weight that codes(p, r) stand for.
void subtract_weights(const TileGrid& grid, MatrixView<const std::uint8_t> codes,
                      MatrixView<const float> values, MatrixView<float> out);

// carry(0 .. first, c) += sum over u < used of factor(row, column + u) error(u, c), one row of carry for each
// of `first` rows of factor: the in-block part of a walk, where blocks are too small for BLAS.
void carry_back(MatrixView<const float> factor, MatrixView<const float> error,
                MatrixView<float> carry);

}  // namespace neap
