#include "kernels/tiles.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>

#include "base/parallel.h"

namespace neap {
namespace {

// How often each panel of each matrix came.
std::vector<std::vector<int>> visits(std::span<const PanelSize> panels, int threads) {
  const ThreadScope scope(threads);
  std::vector<std::vector<std::atomic<int>>> counts;
  for (const PanelSize& size : panels) counts.emplace_back(size.count);
  for_each_panel(panels, [&](std::size_t matrix, std::size_t panel) { ++counts.at(matrix).at(panel); });
  std::vector<std::vector<int>> found;
  for (const auto& matrix : counts) found.emplace_back(matrix.begin(), matrix.end());
  return found;
}

TEST(Tiles, EveryPanelComesOnce) {
  for (const int threads : {1, 2, 3, 7}) {
    for (const std::size_t bytes : {std::size_t{576}, std::size_t{40000}, std::size_t{3} << 20}) {
      for (const std::size_t count : {1, 2, 3, 36, 1000}) {
        const std::array alone = {PanelSize{count, bytes}};
        EXPECT_EQ(visits(alone, threads), std::vector(1, std::vector(count, 1)));
        const std::array together = {PanelSize{count, bytes}, PanelSize{1, 2 * bytes}, PanelSize{12, bytes}};
        const std::vector<std::vector<int>> once = {std::vector(count, 1), {1}, std::vector(12, 1)};
        EXPECT_EQ(visits(together, threads), once) << threads << " threads, " << count << " of " << bytes;
      }
    }
  }
}

}  // namespace
}  // namespace neap
