#include "base/page_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace neap {
namespace {

TEST(PageMemory, PiecesAreZeroAlignedAndApart) {
  std::vector<PageMemory> pieces;
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{64}, std::size_t{100000}, std::size_t{50} << 20,
                                  std::size_t{3}, std::size_t{20} << 20, std::size_t{20} << 20}) {
    const PageMemory& piece = pieces.emplace_back(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(piece.data()) % 64, 0u);
    EXPECT_TRUE(std::all_of(piece.data(), piece.data() + bytes, [](std::byte b) { return b == std::byte{0}; }));
    // Seen as something else than zero if a later piece lay there too.
    std::memset(piece.data(), 1, bytes);
  }
}

TEST(PageMemory, APieceOutlivesTheOthersOfItsMapping) {
  std::vector<PageMemory> kept;
  for (int i = 0; i < 200; ++i) {
    const PageMemory dropped(std::size_t{1} << 20);
    kept.emplace_back(64);
    std::memset(dropped.data(), 7, std::size_t{1} << 20);
    std::memset(kept.back().data(), i, 64);
  }
  for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(static_cast<std::size_t>(kept[i].data()[63]), i);
}

}  // namespace
}  // namespace neap
