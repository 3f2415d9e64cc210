// How products of packed weights are cut into tiles, and where a tile's weights are decoded to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/integer_level.h"
#include "kernels/product.h"
#include "neap/matrix.h"

namespace neap {

// A tile of many tokens: two neighbouring panels, whose decoding its tokens pay for.
struct PairTile {
  std::size_t panel[2];  // the second one is the first again where there is no other
  std::size_t row;       // of the first
  std::size_t token, tokens;
};

// Of one weight matrix.
struct PanelSize {
  std::size_t count, bytes;
};

// Parallel, over all matrices in one region, in tiles that do not depend on the number of threads.
void for_each_pair(std::span<const PanelSize> panels, std::size_t tokens,
                   const std::function<void(std::size_t matrix, const PairTile&)>& body);
// Every panel once, neighbours on one thread: each by itself, so that nothing depends on how many
// threads share them.
void for_each_panel(std::span<const PanelSize> panels,
                    const std::function<void(std::size_t matrix, std::size_t panel)>& body);

// Where `rows` rows, or as many as there are, from `row` on go, of tokens from `token` on.
KernelOutput output_at(std::span<const float> bias, MatrixView<float> y, std::size_t token,
                       std::size_t row, std::size_t rows);

// few(product, panel, output) for all panels, or many(product, tile, output) for all tiles.
template <class Packed, class Few, class Many>
void run_products(std::span<const Product<Packed>> products, std::size_t tokens, const Few& few,
                  const Many& many) {
  std::vector<PanelSize> panels;
  for (const Product<Packed>& p : products) {
    NEAP_CHECK(p.y.rows == tokens && p.y.cols == p.weights->rows());
    NEAP_CHECK(p.bias.empty() || p.bias.size() == p.weights->rows());
    panels.push_back({p.weights->panels(), p.weights->bytes() / p.weights->panels()});
  }
  if (tokens <= kFewTokens) {
    for_each_panel(panels, [&](std::size_t i, std::size_t panel) {
      const Product<Packed>& p = products[i];
      few(p, panel, output_at(p.bias, p.y, 0, panel * kPanelRows, kPanelRows));
    });
  } else {
    for_each_pair(panels, tokens, [&](std::size_t i, const PairTile& tile) {
      const Product<Packed>& p = products[i];
      many(p, tile, output_at(p.bias, p.y, tile.token, tile.row, kPairRows));
    });
  }
}

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

}  // namespace neap
