// LO-BCQ weights as the kernels read them: a reordering of the file's bytes, as small as they are.
//
// Rows come in panels of 16, a row in each 32-bit lane of a 64-byte vector. A panel holds, for each
// block array in ascending order,
//
//   headers   `words` vectors. Lane r has row r's selectors, each log2(Nc) bits wide, from the
//   least
//             significant bit up, as many to a word as fit whole; the last word's top byte is the
//             row's E4M3 scale (another word where selectors need that byte)
//   codes     block_array / 8 vectors. Of the j-th, byte i of lane r has the code of column 8j + i
//             below and that of column 8j + 4 + i above
//
// so that the four bytes of a lane meet four neighbouring activations in one vpdpbusd, and selector
// and code of a value make up the index into a table of 16 Nc entries. The usual layout (64, 8, 8)
// has 24 bits of selectors and 8 of scale: one header word, 576 bytes for 16 rows and 64 columns,
// 4.5 bits a weight, in the order in which they are read. Rows and columns that are missing to
// whole panels and arrays have code, selector and scale 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/page_memory.h"
#include "codec/lobcq.h"
#include "kernels/int8_inputs.h"
#include "kernels/lobcq_level.h"

namespace neap {

class PackedLobcq {
 public:
  // The codebooks must fit the tensor (NEAP_CHECK). Parallel inside.
  PackedLobcq(const LobcqTensor& tensor, const Codebooks& codebooks);

  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  const LobcqLayout& layout() const { return layout_; }
  float tensor_scale() const { return tensor_scale_; }

  // What activations of 8 bits have to be.
  Int8Blocks int8_blocks() const { return {shape_.block_array, kEntryOffset}; }

  // What bf16 activations are filled up to multiples of.
  std::size_t bf16_block() const { return shape_.block_array; }

  const LobcqShape& shape() const { return shape_; }
  std::size_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  const std::uint8_t* panel(std::size_t index) const {
    return data() + index * shape_.arrays * shape_.array_bytes;
  }
  std::size_t bytes() const { return panels() * shape_.arrays * shape_.array_bytes; }

 private:
  void pack(const LobcqTensor& tensor, std::size_t panel);

  std::uint8_t* data() const { return reinterpret_cast<std::uint8_t*>(memory_.data()); }

  std::size_t rows_, cols_;
  LobcqLayout layout_;
  float tensor_scale_;
  LobcqShape shape_{};
  PageMemory memory_;
};

}  // namespace neap
