// LO-BCQ's codebooks (arXiv 2502.05376): the tables that a model's 4-bit codes point into. Few, tiny, and
// the same for every model; docs/formats/lobcq.md says how a tensor uses them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace neap {

// How a row is cut along the reduction axis: block arrays share a scale, blocks share a codebook.
struct LobcqLayout {
  int block_array = 64;  // values that share a scale: 16, 32, 64 or 128
  int block = 8;         // values that share a codebook: 2, 4 or 8
  int codebooks = 8;     // 2, 4, 8 or 16

  bool valid() const;
  int selector_bits() const;  // log2(codebooks)
  // Per row of `cols` values. The last array and the last block are shorter where the sizes do not divide.
  std::int64_t arrays(std::int64_t cols) const;
  std::int64_t blocks(std::int64_t cols) const;

  bool operator==(const LobcqLayout&) const = default;
};

inline constexpr int kCodebookEntries = 16;
inline constexpr int kLargestEntry = 31;  // INT6, symmetric

// Ascending, each in [-31, 31]; equal entries are allowed.
using Codebook = std::array<std::int8_t, kCodebookEntries>;
// As many as the layout says. The order is part of a file's meaning: selectors are indices.
using Codebooks = std::vector<Codebook>;

}  // namespace neap
