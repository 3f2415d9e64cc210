#include "kernels/read_row.h"

#include <algorithm>

#include "kernels/tiles.h"
#include "neap/check.h"

namespace neap {
namespace {

// A row of the first panel of `pair`. offset: of values where there are no zeros.
void take_row(const IntegerPair& pair, std::size_t lane, int offset, float tensor_scale,
              std::size_t cols, float* out) {
  for (std::size_t b = 0; b * pair.block < cols; ++b) {
    const float scale = tensor_scale * pair.scales[b * kPairRows + lane];
    const int zero = pair.zeros ? static_cast<int>(pair.zeros[b * kPairRows + lane]) : offset;
    const std::size_t first = b * pair.block, end = std::min(cols, first + pair.block);
    for (std::size_t c = first; c < end; ++c) {
      const int value = pair.values[c / 4 * 2 * kVectorBytes + 4 * lane + c % 4];
      // A scale of 0 is an array of zeros, whatever stands in it: never -0.
      out[c] = scale == 0 ? 0 : static_cast<float>(value - zero) * scale;
    }
  }
}

}  // namespace

void read_row(const PackedGroupInt& weights, std::size_t row, float* out, Isa isa) {
  NEAP_CHECK(row < weights.rows());
  const GroupShape& shape = weights.shape();
  const PairBuffer pair(shape.blocks, shape.block, shape.zeros);
  group_kernels(isa).decode(shape, weights.panel(row / kPanelRows), {0, shape.blocks}, pair.values(0),
                            pair.scales(0), pair.zeros(0));
  take_row(pair.view(), row % kPanelRows, 1 << (shape.bits - 1), 1, weights.cols(), out);
}

void read_row(const PackedLobcq& weights, std::size_t row, float* out, Isa isa) {
  NEAP_CHECK(row < weights.rows());
  const LobcqShape& shape = weights.shape();
  const PairBuffer pair(shape.arrays, shape.block_array, false);
  lobcq_kernels(isa).decode(shape, weights.panel(row / kPanelRows), {0, shape.arrays}, pair.values(0),
                            pair.scales(0));
  take_row(pair.view(), row % kPanelRows, kEntryOffset, weights.tensor_scale(), weights.cols(), out);
}

}  // namespace neap
