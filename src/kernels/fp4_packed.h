// Weights in 4-bit floats (NVFP4, MXFP4) as the kernels read them: a reordering of the file's bytes, as
// small as they are where four groups divide a row.
//
// Rows come in panels of 16, a row in each 32-bit lane of a 64-byte vector. A panel holds, for every
// four groups (of 16 columns in NVFP4, 32 in MXFP4), in ascending order,
//
//   scales   one vector. Byte i of lane r is row r's stored scale (E4M3 or E8M0) of the i-th group
//   codes    a vector for every 8 columns. Of the j-th, byte i of lane r has the code of column 8j + i
//            below and that of column 8j + 4 + i above
//
// Numbers are read as integers: twice an E2M1 number is one, under half of its group's scale. Rows and
// groups that are missing to whole panels and stripes have code and scale 0; the last stripe ends with
// its codes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/page_memory.h"
#include "codec/fp4.h"
#include "kernels/fp4_level.h"
#include "kernels/int8_inputs.h"

namespace neap {

class PackedFp4 {
 public:
  // Parallel inside.
  explicit PackedFp4(const Fp4Tensor& tensor);

  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }

  // What activations of 8 bits have to be.
  Int8Blocks int8_blocks() const { return {shape_.group, kFp4Offset}; }

  // What bf16 activations are filled up to multiples of.
  std::size_t bf16_block() const { return shape_.group; }

  const Fp4Shape& shape() const { return shape_; }
  std::size_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  const std::uint8_t* panel(std::size_t index) const { return data() + index * shape_.panel_bytes; }
  std::size_t bytes() const { return panels() * shape_.panel_bytes; }

 private:
  void pack(const Fp4Tensor& tensor, std::size_t panel);

  std::uint8_t* data() const { return reinterpret_cast<std::uint8_t*>(memory_.data()); }

  std::size_t rows_, cols_;
  Fp4Shape shape_;
  PageMemory memory_;
};

}  // namespace neap
