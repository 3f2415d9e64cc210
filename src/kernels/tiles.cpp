#include "kernels/tiles.h"

#include <algorithm>

#include "base/buffer.h"
#include "base/parallel.h"

namespace neap {

void for_each_pair(std::size_t panels, std::size_t tokens,
                   const std::function<void(const PairTile&)>& body) {
  constexpr std::size_t kTileTokens = 192;
  const std::size_t pairs = (panels + 1) / 2;
  parallel_for((tokens + kTileTokens - 1) / kTileTokens * pairs, [&](std::size_t task) {
    const std::size_t token = task / pairs * kTileTokens, panel = task % pairs * 2;
    body({.panel = {panel, std::min(panel + 1, panels - 1)},
          .row = panel * kPanelRows,
          .token = token,
          .tokens = std::min(kTileTokens, tokens - token)});
  });
}

void for_each_panel(std::size_t panels, std::size_t panel_bytes,
                    const std::function<void(std::size_t)>& body) {
  constexpr std::size_t kTileBytes = 32768;
  const std::size_t per_tile = std::max<std::size_t>(1, kTileBytes / panel_bytes);
  parallel_for((panels + per_tile - 1) / per_tile, [&](std::size_t tile) {
    const std::size_t end = std::min(panels, (tile + 1) * per_tile);
    for (std::size_t panel = tile * per_tile; panel < end; ++panel) body(panel);
  });
}

PairBuffer::PairBuffer(std::size_t blocks, std::size_t block, bool zeros)
    : blocks_(blocks), block_(block) {
  thread_local Buffer value_buffer, scale_buffer, zero_buffer;
  values_ = reinterpret_cast<std::uint8_t*>(value_buffer.bytes(blocks * block * kPairRows));
  scales_ = scale_buffer.floats(blocks * kPairRows);
  zeros_ = zeros ? zero_buffer.floats(blocks * kPairRows) : nullptr;
}

KernelOutput output_at(std::span<const float> bias, MatrixView<float> y, std::size_t token,
                       std::size_t row, std::size_t rows) {
  return {y.row(token) + row, y.stride, std::min(rows, y.cols - row),
          bias.empty() ? nullptr : bias.data() + row};
}

}  // namespace neap
