#include "solve/table_tile.h"

#include <algorithm>

namespace neap {

TableTile::TableTile(const TableLayout& layout, const Matrix<std::int32_t>& scales, std::size_t first,
                     std::size_t rows, const std::vector<std::uint32_t>& input_at)
    : layout_(layout), scales_(scales.cols(), rows), inverses_(scales.cols(), rows) {
  const std::size_t cols = input_at.size();
  for (std::size_t p = 0; p < cols;) {
    const std::size_t index = input_at[p] / layout.block;
    const std::size_t end = p + std::min(layout.block, cols - index * layout.block);
    NEAP_CHECK(end <= cols);
    for (std::size_t q = p; q < end; ++q) NEAP_CHECK(input_at[q] / layout.block == index);
    blocks_.push_back({p, end, index});
    p = end;
  }
  for (std::size_t a = 0; a < scales.cols(); ++a) {
    for (std::size_t r = 0; r < rows; ++r) {
      const float scale = scale_value(layout, scales(first + r, a));
      scales_(a, r) = scale;
      inverses_(a, r) = scale == 0 ? 0 : 1 / scale;
    }
  }
}

TableSteps::TableSteps(const Table& table) : first(table[0]) {
  for (std::size_t e = 0; e + 1 < kTableEntries; ++e) {
    middle[e] = 0.5f * (table[e] + table[e + 1]);
    step[e] = table[e + 1] - table[e];
  }
}

}  // namespace neap
