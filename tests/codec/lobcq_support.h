// Codebooks and values for tests of LO-BCQ, and the rule of the format spelt out by exhaustive
// search.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include "codec/lobcq.h"
#include "support/random_matrix.h"

namespace neap {

inline Codebooks random_codebooks(const LobcqLayout& layout, std::uint32_t seed) {
  std::mt19937 random(seed);
  Codebooks codebooks(static_cast<std::size_t>(layout.codebooks));
  for (Codebook& book : codebooks) {
    // A narrow range for some: equal entries must occur.
    const int reach = 4 + static_cast<int>(random() % 28);
    for (std::int8_t& entry : book) {
      entry = static_cast<std::int8_t>(
          static_cast<int>(random() % static_cast<unsigned>(2 * reach + 1)) - reach);
    }
    std::sort(book.begin(), book.end());
  }
  return codebooks;
}

inline std::vector<LobcqLayout> every_layout() {
  std::vector<LobcqLayout> layouts;
  for (const int array : {16, 32, 64, 128}) {
    for (const int block : {2, 4, 8}) {
      for (const int codebooks : {2, 4, 8, 16}) layouts.push_back({array, block, codebooks});
    }
  }
  return layouts;
}

// n of the format, from its definition.
inline int fixed_point(float x, float unit) {
  const float scaled = x * (64.0f / unit);
  return static_cast<int>(std::nearbyint(std::clamp(scaled, -4095.0f, 4095.0f)));
}

struct BlockDecision {
  std::int64_t error = INT64_MAX;
  int selector = 0;
  std::vector<int> codes;
};

// Every codebook, every entry.
inline BlockDecision decide_block(const Codebooks& codebooks, const std::vector<int>& n) {
  BlockDecision best;
  for (std::size_t s = 0; s < codebooks.size(); ++s) {
    BlockDecision now{0, static_cast<int>(s), {}};
    for (const int value : n) {
      int code = 0;
      for (int i = 0; i < kCodebookEntries; ++i) {
        const auto distance = [&](int k) {
          return std::abs(value - 64 * codebooks[s][static_cast<std::size_t>(k)]);
        };
        if (distance(i) < distance(code)) code = i;
      }
      const int e = value - 64 * codebooks[s][static_cast<std::size_t>(code)];
      now.error += e * e;
      now.codes.push_back(code);
    }
    if (now.error < best.error) best = now;
  }
  return best;
}

// A tensor that keeps every promise, with arrays of zeros, subnormal and negative scales among the
// rest.
inline LobcqTensor random_lobcq(const LobcqLayout& layout, std::int64_t rows, std::int64_t cols,
                                std::uint32_t seed) {
  std::mt19937 random(seed);
  LobcqTensor tensor{.layout = layout,
                     .rows = rows,
                     .cols = cols,
                     .codes = {},
                     .selectors = {},
                     .scales = {},
                     .tensor_scale = 0.0078125f};
  const std::int64_t arrays = layout.arrays(cols), blocks = layout.blocks(cols);
  for (std::int64_t i = 0; i < rows * arrays; ++i) {
    const auto bits = static_cast<E4m3>(random() >> 24);
    const bool usable = (bits & 0x7f) != 0x7f && bits != 0x80 && bits % 5 != 0;
    tensor.scales.push_back(usable ? bits : E4m3{0});
  }
  const auto zero = [&](std::int64_t r, std::int64_t a) {
    return tensor.scales[static_cast<std::size_t>(r * arrays + a)] == 0;
  };
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const auto code = static_cast<std::uint8_t>(random() % 16);
      tensor.codes.push_back(zero(r, c / layout.block_array) ? std::uint8_t{0} : code);
    }
    for (std::int64_t b = 0; b < blocks; ++b) {
      const auto selector =
          static_cast<std::uint8_t>(random() % static_cast<unsigned>(layout.codebooks));
      tensor.selectors.push_back(zero(r, b * layout.block / layout.block_array) ? std::uint8_t{0}
                                                                                : selector);
    }
  }
  return tensor;
}

}  // namespace neap
