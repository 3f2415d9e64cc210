#include "kernels/group_matmul.h"

#include "kernels/tiles.h"

namespace neap {

void multiply(std::span<const Product<PackedGroupInt>> products, const Int8Inputs& x, Isa isa) {
  const GroupKernels& kernels = group_kernels(isa);
  for (const auto& p : products)
    NEAP_CHECK(x.blocks() == p.weights->int8_blocks() && x.cols() == p.weights->cols());
  const auto few = [&](const auto& p, std::size_t panel, const KernelOutput& out) {
    kernels.few(p.weights->shape(), p.weights->panel(panel), x.view(0), x.tokens(), out);
  };
  const auto many = [&](const auto& p, const PairTile& tile, const KernelOutput& out) {
    const GroupShape& shape = p.weights->shape();
    const PairBuffer pair(shape.blocks, shape.block, shape.zeros);
    for (std::size_t half = 0; half < 2; ++half) {
      kernels.decode(shape, p.weights->panel(tile.panel[half]), {0, shape.blocks},
                     pair.values(half), pair.scales(half), pair.zeros(half));
    }
    integer_kernels(isa).many(pair.view(shape.bits == 8), x.view(tile.token), tile.tokens, out);
  };
  run_products(products, x.tokens(), few, many);
}

}  // namespace neap
