#include "kernels/fp4_matmul.h"

#include "kernels/tiles.h"

namespace neap {

void multiply(std::span<const Product<PackedFp4>> products, const Int8Inputs& x, Isa isa) {
  const Fp4Kernels& kernels = fp4_kernels(isa);
  for (const auto& p : products)
    NEAP_CHECK(x.blocks() == p.weights->int8_blocks() && x.cols() == p.weights->cols());
  const auto few = [&](const auto& p, std::size_t panel, const KernelOutput& out) {
    kernels.few(p.weights->shape(), p.weights->panel(panel), x.view(0), x.tokens(), out);
  };
  const auto many = [&](const auto& p, const PairTile& tile, const KernelOutput& out) {
    const Fp4Shape& shape = p.weights->shape();
    const PairBuffer pair(shape.groups, shape.group, false);
    for (std::size_t half = 0; half < 2; ++half) {
      kernels.decode(shape, p.weights->panel(tile.panel[half]), {0, shape.groups},
                     pair.values(half), pair.scales(half));
    }
    integer_kernels(isa).many(pair.view(), x.view(tile.token), tile.tokens, out);
  };
  run_products(products, x.tokens(), few, many);
}

}  // namespace neap
