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

// In which numbers a file keeps the grid of a group. To the solvers all are w^ = scale (code - zero), scale > 0.
enum class GridForm {
  zero_points,   // a portable_scale, and an integer zero in [0, 2^bits)
  signed_half,   // an fp16 scale of either sign before the integers [-2^(bits-1), 2^(bits-1)). A negative one is
                 // its magnitude here, with codes that count from the other end: zero is then 2^(bits-1) - 1,
                 // else 2^(bits-1). Of 8 bits only [-127, 127], which all readers can negate: zero is 127
  half_minimum,  // an fp16 scale, and the fp16 number that code 0 stands for: zero is minus that over the scale,
                 // any real number
  super_signed,  // signed_half's integers under two levels (SuperBlocks): an fp16 scale for 256 inputs, a small
                 // integer of either sign for a group
  super_minimum,  // the same for scale and minimum, where the integers are no less than 0, and minima no more
};

// Inputs under one pair of fp16 numbers with the last two forms; a group divides them.
constexpr std::size_t kSuperBlock = 256;

// What stands behind a grid of two levels: a group's scale is its sub-scale times its super-block's scale, what code 0
// stands for is minus its sub-minimum times its super-block's minimum.
struct SuperBlocks {
  Matrix<float> scales, minima;          // (rows, super-blocks): fp16 numbers > 0, >= 0; minima: super_minimum's
  Matrix<std::int8_t> sub_scales;        // (rows, groups): never 0; negative where codes count from the other end
  Matrix<std::uint8_t> sub_minima;       // (rows, groups), super_minimum's
};

// w^ = scale (code - zero), code in [0, highest]. By row and group.
struct Grid {
  GroupLayout layout;  // its bits and group; the rest with zero_points alone
  std::size_t cols = 0;
  Matrix<float> scales, zeros;  // as `form` has them
  GridForm form = GridForm::zero_points;
  SuperBlocks super_blocks;     // with two levels, and then scales and zeros are theirs

  std::size_t group_width() const;  // inputs per group, the last group apart
  bool two_levels() const { return form == GridForm::super_signed || form == GridForm::super_minimum; }
  // Largest magnitude of a group's integers, with two levels: that of the K type of GGUF with as many bits.
  int highest_sub_scale() const;
  // With two levels: scale and zero of a group, from super_blocks.
  void apply_levels(std::size_t row, std::size_t group);
  int highest() const { return (1 << layout.bits) - (form == GridForm::signed_half && layout.bits == 8 ? 2 : 1); }
};

enum class GridSearch {
  range,     // smallest and largest weight of the group
  weighted,  // least sum of importance_i (w_i - w^_i)^2 over shrunk ranges and shifted zeros
};

// Room for a layer's scales and zeros, all 0. Throws Error(argument) for a layout out of range.
Grid empty_grid(const GroupLayout& layout, std::size_t rows, std::size_t cols,
                GridForm form = GridForm::zero_points);

// The nearest value with at most 8 significant bits in fp16's normal range: it is then exact in fp16 and
// in bf16, so that a file of either kind holds the grid that was solved on. value: finite, >= 0.
float portable_scale(float value);
// The nearest fp16 number, subnormal ones included, but neither infinity nor, of scales, 0.
float half_scale(float value);  // value: finite, >= 0
float half_minimum(float value);

// weight: (rows, cols), finite. importance: cols weights >= 0 of the squared error, or empty: all 1.
// With zero_points an asymmetric range always has 0 inside. A group of zeros gets the smallest scale. Parallel
// over rows. Forms of two levels are always searched by weight.
Grid make_grid(MatrixView<const float> weight, const GroupLayout& layout, GridSearch search,
               std::span<const float> importance = {}, GridForm form = GridForm::zero_points);

// Rows [first, first + count) of `from` over those of `to` from row `to_first` on; both of one layout.
void copy_rows(const Grid& from, std::size_t first, Grid& to, std::size_t to_first, std::size_t count);

}  // namespace neap
