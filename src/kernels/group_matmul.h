// Products of integer codes in groups with activations rounded to 8 bits: the fast mode, W8A8 in
// its arithmetic and W2 to W4 in what is read.
//
// Activations are rounded (kernels/int8_inputs.h) in blocks of the weights' groups, at most 128
// columns, 128 for whole rows. A product is, per output, over the blocks in ascending order, from
// 0,
//
//   sum = fma(float(sum over the block of q (code - zero)), d * scale, sum)
//
// with an exact integer in the middle (below 2^23), d * scale rounded once; then + bias. Every
// level of instructions gives these bits.
#pragma once

#include <span>

#include "kernels/group_packed.h"
#include "kernels/int8_inputs.h"
#include "kernels/product.h"

namespace neap {

// y = x W' + bias as above, each product. x: rounded in the weights' int8_blocks (NEAP_CHECK).
// Parallel inside, over all products at once; the bits of a token do not depend on the others.
void multiply(std::span<const Product<PackedGroupInt>> products, const Int8Inputs& x,
              Isa isa = default_isa());

}  // namespace neap
