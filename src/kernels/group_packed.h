// Integer codes in groups (compressed-tensors' grid) as the kernels read them.
//
// Rows come in panels of 16, a row in each 32-bit lane of a 64-byte vector. A panel is one stream
// that is read once from its first byte to its last, in stripes of one, two or four groups, as many
// as fill vectors with their scales and zeros. (Scales in a place of their own, a second stream, cost
// a third to a half of the speed of a memory that is read by one token.) A stripe holds
//
//   scales   16 a group, in the checkpoint's type
//   zeros    16 bytes a group, if the grid has any
//   codes    for every 32 columns `bits` vectors. With c(g, i) the code of column 4 g + i, byte i
//            of a row's lane has
//              8 bits  c(g, i) in vector g
//              4 bits  c(2 j, i) at bit 0, c(2 j + 1, i) at bit 4 of vector j
//              3 bits  c(2 j, i) at bit 0, c(2 j + 1, i) at bit 3 of vector j; of c(6, i) the upper
//                      two bits at bit 6 of vector 0, the last at bit 6 of vector 2; of c(7, i) the
//                      upper two at bit 6 of vector 1, the last at bit 7 of vector 2
//              2 bits  c(4 j + p, i) at bit 2 p in vector j
//
// so that a mask leaves a code times a power of two, which is as good for a sum that is divided by
// it in the end. Rows and columns that are missing to whole panels and chunks have code, scale and
// zero 0, as have groups that are missing to whole stripes; the last stripe ends with its codes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/page_memory.h"
#include "kernels/group_level.h"
#include "kernels/int8_inputs.h"
#include "neap/codec.h"

namespace neap {

class PackedGroupInt {
 public:
  // Whether kernels can take it: 2, 3, 4 or 8 bits, groups of a multiple of 32 columns or whole
  // rows.
  static bool fits(const GroupLayout& layout);

  // NEAP_CHECKs that it fits. Parallel inside.
  explicit PackedGroupInt(const QuantizedTensor& tensor);

  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  const GroupLayout& layout() const { return layout_; }

  // What the fast mode's activations have to be.
  Int8Blocks int8_blocks() const {
    return {shape_.block, shape_.zeros ? 1 : 1 << (shape_.bits - 1)};
  }

  // What bf16 activations are filled up to multiples of.
  std::size_t bf16_block() const { return shape_.block; }

  const GroupShape& shape() const { return shape_; }
  std::size_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  const std::uint8_t* panel(std::size_t index) const { return data() + index * shape_.panel_bytes; }
  std::size_t bytes() const { return panels() * shape_.panel_bytes; }

 private:
  void pack(const QuantizedTensor& tensor, std::size_t panel);

  std::uint8_t* data() const { return reinterpret_cast<std::uint8_t*>(memory_.data()); }

  std::size_t rows_, cols_;
  GroupLayout layout_;
  GroupShape shape_{};
  PageMemory memory_;
};

}  // namespace neap
