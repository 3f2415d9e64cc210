#include "kernels/group_matmul.h"

#include "kernels/tiles.h"

namespace neap {

void multiply(const PackedGroupInt& weights, const Int8Inputs& x, std::span<const float> bias,
              MatrixView<float> y, Isa isa) {
  const GroupShape& shape = weights.shape();
  NEAP_CHECK(x.blocks() == weights.int8_blocks());
  NEAP_CHECK(x.cols() == weights.cols() && y.rows == x.tokens() && y.cols == weights.rows());
  NEAP_CHECK(bias.empty() || bias.size() == weights.rows());
  const GroupKernels& kernels = group_kernels(isa);
  if (y.rows <= kFewTokens) {
    for_each_panel(weights.panels(), shape.panel_bytes, [&](std::size_t panel) {
      kernels.few(shape, weights.panel(panel), x.view(0), y.rows,
                  output_at(bias, y, 0, panel * kPanelRows, kPanelRows));
    });
    return;
  }
  for_each_pair(weights.panels(), y.rows, [&](const PairTile& tile) {
    const PairBuffer pair(shape.blocks, shape.block, shape.zeros);
    for (std::size_t half = 0; half < 2; ++half) {
      kernels.decode(shape, weights.panel(tile.panel[half]), pair.values(half), pair.scales(half),
                     pair.zeros(half));
    }
    integer_kernels(isa).many(pair.view(shape.bits == 8), x.view(tile.token), tile.tokens,
                              output_at(bias, y, tile.token, tile.row, kPairRows));
  });
}

}  // namespace neap
