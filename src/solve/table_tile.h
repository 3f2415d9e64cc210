// A tile of rows (solve/tile.h) on a grid of tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "neap/matrix.h"
#include "solve/table_grid.h"

namespace neap {

// Positions [begin, end) of a block, whose inputs the order keeps together.
struct BlockPlace {
  std::size_t begin, end;
  std::size_t index;  // of the block in the row
};

class TableTile {
 public:
  // input_at keeps the inputs of a block together (SystemOptions::block): NEAP_CHECK.
  TableTile(const TableLayout& layout, const Matrix<std::int32_t>& scales, std::size_t first, std::size_t rows,
            const std::vector<std::uint32_t>& input_at);

  const TableLayout& layout() const { return layout_; }
  std::size_t rows() const { return scales_.cols(); }
  const std::vector<BlockPlace>& blocks() const { return blocks_; }  // in ascending positions
  // Of every row, in a block. inverse: 1 / scale, or 0 where the scale is 0.
  const float* scale(const BlockPlace& block) const { return scales_.row(array_of(block)); }
  const float* inverse(const BlockPlace& block) const { return inverses_.row(array_of(block)); }

 private:
  std::size_t array_of(const BlockPlace& block) const { return block.index * layout_.block / layout_.array; }

  const TableLayout& layout_;
  std::vector<BlockPlace> blocks_;
  Matrix<float> scales_, inverses_;  // (arrays, rows)
};

// What a table looks like to a search for the nearest entry: the entry is the first one plus the steps
// whose middle lies below the value.
struct TableSteps {
  explicit TableSteps(const Table& table);
  // The entry nearest to `value`; of two equally near ones the lower.
  float nearest(float value) const {
    float entry = first;
    for (std::size_t k = 0; k + 1 < kTableEntries; ++k) entry += value > middle[k] ? step[k] : 0.0f;
    return entry;
  }
  float first;
  float middle[kTableEntries - 1], step[kTableEntries - 1];
};

}  // namespace neap
