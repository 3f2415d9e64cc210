#include "kernels/bf16_matmul.h"

#include <algorithm>

#include "kernels/tiles.h"

namespace neap {
namespace {

// What kernels/bf16_level.h needs to know of weights in any format.
struct Format {
  std::size_t blocks, block;  // of a row; columns of one
  bool zeros, wide;           // as in IntegerPair
  int offset;                 // where there are no zeros
  float factor;
};

Format format_of(const PackedGroupInt& weights) {
  const GroupShape& shape = weights.shape();
  return {shape.blocks, shape.block, shape.zeros, shape.bits == 8, 1 << (shape.bits - 1), 1};
}

Format format_of(const PackedLobcq& weights) {
  const LobcqShape& shape = weights.shape();
  return {shape.arrays, shape.block_array, false, false, kEntryOffset, weights.tensor_scale()};
}

Format format_of(const PackedFp4& weights) {
  const Fp4Shape& shape = weights.shape();
  return {shape.groups, shape.group, false, false, kFp4Offset, 1};
}

void decode(const PackedGroupInt& weights, Isa isa, std::size_t panel, BlockRange range,
            std::size_t half, const PairBuffer& to) {
  group_kernels(isa).decode(weights.shape(), weights.panel(panel), range, to.values(half),
                            to.scales(half), to.zeros(half));
}

void decode(const PackedLobcq& weights, Isa isa, std::size_t panel, BlockRange range,
            std::size_t half, const PairBuffer& to) {
  lobcq_kernels(isa).decode(weights.shape(), weights.panel(panel), range, to.values(half),
                            to.scales(half));
}

void decode(const PackedFp4& weights, Isa isa, std::size_t panel, BlockRange range,
            std::size_t half, const PairBuffer& to) {
  fp4_kernels(isa).decode(weights.shape(), weights.panel(panel), range, to.values(half),
                          to.scales(half));
}

// A panel, decoded in strips that stay in L1.
template <class Packed>
void multiply_few(const Packed& weights, std::size_t panel, const Bf16Inputs& x,
                  const KernelOutput& out) {
  constexpr std::size_t kStripColumns = 256;
  const Format format = format_of(weights);
  const std::size_t strip = kStripColumns / format.block;
  float sums[kFewTokens * kPanelRows] = {};
  for (std::size_t first = 0; first < format.blocks; first += strip) {
    const BlockRange range{first, std::min(strip, format.blocks - first)};
    const PairBuffer buffer(range.count, format.block, format.zeros);
    decode(weights, x.isa(), panel, range, 0, buffer);
    bf16_kernels(x.isa()).few(buffer.view(format.wide), format.offset,
                              x.view(0, first * format.block), x.tokens(), sums);
  }
  for (std::size_t t = 0; t < x.tokens(); ++t) {
    for (std::size_t r = 0; r < out.rows; ++r) {
      const float sum = sums[t * kPanelRows + r] * format.factor;
      out.y[t * out.stride + r] = out.bias ? sum + out.bias[r] : sum;
    }
  }
}

template <class Packed>
void multiply_many(const Packed& weights, const PairTile& tile, const Bf16Inputs& x,
                   const KernelOutput& out) {
  const Format format = format_of(weights);
  const PairBuffer buffer(format.blocks, format.block, format.zeros);
  for (std::size_t half = 0; half < 2; ++half)
    decode(weights, x.isa(), tile.panel[half], {0, format.blocks}, half, buffer);
  thread_local Buffer halves;
  const std::size_t count = format.blocks * format.block * kPairRows;
  auto* values = reinterpret_cast<Bf16*>(halves.bytes(count * sizeof(Bf16)));
  const IntegerPair pair = buffer.view(format.wide);
  const Bf16Kernels& kernels = bf16_kernels(x.isa());
  kernels.widen(pair, format.offset, values);
  kernels.many({format.blocks, format.block, values, pair.scales, format.factor},
               x.view(tile.token), tile.tokens, out);
}

template <class Packed>
void multiply_all(std::span<const Product<Packed>> products, const Bf16Inputs& x) {
  for (const auto& p : products)
    NEAP_CHECK(x.cols() == p.weights->cols() && x.block() == p.weights->bf16_block());
  run_products(
      products, x.tokens(),
      [&](const auto& p, std::size_t panel, const KernelOutput& out) {
        multiply_few(*p.weights, panel, x, out);
      },
      [&](const auto& p, const PairTile& tile, const KernelOutput& out) {
        multiply_many(*p.weights, tile, x, out);
      });
}

}  // namespace

void multiply(std::span<const Product<PackedGroupInt>> products, const Bf16Inputs& x) {
  multiply_all(products, x);
}

void multiply(std::span<const Product<PackedLobcq>> products, const Bf16Inputs& x) {
  multiply_all(products, x);
}

void multiply(std::span<const Product<PackedFp4>> products, const Bf16Inputs& x) {
  multiply_all(products, x);
}

}  // namespace neap
