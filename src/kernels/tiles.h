// How a product of packed weights is cut into tiles, and where a tile's weights are decoded to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "kernels/integer_level.h"
#include "neap/matrix.h"

namespace neap {

// A tile of many tokens: two neighbouring panels, whose decoding its tokens pay for.
struct PairTile {
  std::size_t panel[2];  // the second one is the first again where there is no other
  std::size_t row;       // of the first
  std::size_t token, tokens;
};

// Parallel, in tiles that do not depend on the number of threads.
void for_each_pair(std::size_t panels, std::size_t tokens,
                   const std::function<void(const PairTile&)>& body);
// Neighbouring panels to a tile, as many as make it worth waking a thread.
void for_each_panel(std::size_t panels, std::size_t panel_bytes,
                    const std::function<void(std::size_t panel)>& body);

// Room for a decoded pair. The calling thread's own: one at a time.
class PairBuffer {
 public:
  // block: columns of one of `blocks`.
  PairBuffer(std::size_t blocks, std::size_t block, bool zeros);

  // Of the first or second panel.
  std::uint8_t* values(std::size_t half) const { return values_ + half * kVectorBytes; }
  float* scales(std::size_t half) const { return scales_ + half * kPanelRows; }
  float* zeros(std::size_t half) const { return zeros_ ? zeros_ + half * kPanelRows : nullptr; }
  IntegerPair view(bool wide = false) const {
    return {blocks_, block_, values_, scales_, zeros_, wide};
  }

 private:
  std::size_t blocks_, block_;
  std::uint8_t* values_;
  float *scales_, *zeros_;
};

// Where `rows` rows, or as many as there are, from `row` on go, of tokens from `token` on.
KernelOutput output_at(std::span<const float> bias, MatrixView<float> y, std::size_t token,
                       std::size_t row, std::size_t rows);

}  // namespace neap
