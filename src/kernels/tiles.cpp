#include "kernels/tiles.h"

#include <algorithm>

#include "base/buffer.h"
#include "base/parallel.h"

namespace neap {

namespace {

// Parallel tiles of several matrices: counts[i] of matrix i.
void for_each_tile(std::span<const std::size_t> counts,
                   const std::function<void(std::size_t matrix, std::size_t tile)>& body) {
  std::size_t all = 0;
  for (const std::size_t count : counts) all += count;
  parallel_for(all, [&](std::size_t tile) {
    std::size_t matrix = 0;
    while (tile >= counts[matrix]) tile -= counts[matrix++];
    body(matrix, tile);
  });
}

std::size_t tiles_of(std::size_t count, std::size_t tile) { return (count + tile - 1) / tile; }

}  // namespace

void for_each_pair(std::span<const PanelSize> panels, std::size_t tokens,
                   const std::function<void(std::size_t matrix, const PairTile&)>& body) {
  constexpr std::size_t kTileTokens = 192;
  std::vector<std::size_t> counts;
  for (const PanelSize& size : panels)
    counts.push_back(tiles_of(tokens, kTileTokens) * tiles_of(size.count, 2));
  for_each_tile(counts, [&](std::size_t matrix, std::size_t tile) {
    const std::size_t count = panels[matrix].count, pairs = tiles_of(count, 2);
    const std::size_t token = tile / pairs * kTileTokens, panel = tile % pairs * 2;
    body(matrix, {.panel = {panel, std::min(panel + 1, count - 1)},
                  .row = panel * kPanelRows,
                  .token = token,
                  .tokens = std::min(kTileTokens, tokens - token)});
  });
}

void for_each_panel(std::span<const PanelSize> panels,
                    const std::function<void(std::size_t matrix, std::size_t panel)>& body) {
  // A thread begins a stretch of memory slowly (half a microsecond), and what a tile needs beside its
  // weights has left the first-level cache by the next one: few tiles, all of one size. Of a thread's
  // share, half can still go to another.
  constexpr std::size_t kTileBytes = std::size_t{128} << 10, kLeastTiles = 2;
  std::size_t all = 0, bytes = 0;
  for (const PanelSize& size : panels) all += size.count, bytes += size.count * size.bytes;
  const auto threads = static_cast<std::size_t>(thread_count());
  const std::size_t each = std::max(kLeastTiles, tiles_of(bytes, threads * kTileBytes));
  const std::size_t tiles = std::min(all, threads * each);
  parallel_for(tiles, [&](std::size_t tile) {
    std::size_t matrix = 0, panel = all * tile / tiles, left = all * (tile + 1) / tiles - panel;
    for (; panel >= panels[matrix].count; ++matrix) panel -= panels[matrix].count;
    for (; left > 0; --left, ++panel) {
      if (panel == panels[matrix].count) panel = 0, ++matrix;
      body(matrix, panel);
    }
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
