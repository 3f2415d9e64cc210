// Products of 4-bit floats (NVFP4, MXFP4) with activations rounded to 8 bits (kernels/int8_inputs.h), in
// blocks of the weights' groups. Per output, over the groups in ascending order, from 0,
//
//   sum = fma(float(sum over the group of q * 2 e2m1), d * (scale / 2), sum)
//
// with an exact integer in the middle, `scale` as codec/fp4.h defines it, every product of scales
// rounded once; then + bias. Every level of instructions gives these bits. On bf16 activations:
// kernels/bf16_matmul.h.
#pragma once

#include <span>

#include "kernels/fp4_packed.h"
#include "kernels/product.h"

namespace neap {

// y = x W' + bias as above, each product. x: rounded in the weights' int8_blocks (NEAP_CHECK).
// Parallel inside, over all products at once; the bits of a token do not depend on the others.
void multiply(std::span<const Product<PackedFp4>> products, const Int8Inputs& x,
              Isa isa = default_isa());

}  // namespace neap
