// Products of packed weights with activations in bf16: the weights stay the small integers that
// they are stored as, their scales fp32, and nothing but the activations is rounded.
// kernels/bf16_level.h defines the arithmetic, and its bits are those of every level.
#pragma once

#include <span>

#include "kernels/bf16_inputs.h"
#include "kernels/fp4_packed.h"
#include "kernels/group_packed.h"
#include "kernels/lobcq_packed.h"
#include "kernels/product.h"

namespace neap {

// y = x W' + bias. x: rounded for the weights' bf16_block (NEAP_CHECK), at the level of
// instructions that runs then. Parallel inside, over all products at once; the bits of a token do
// not depend on the others.
void multiply(std::span<const Product<PackedGroupInt>> products, const Bf16Inputs& x);
void multiply(std::span<const Product<PackedLobcq>> products, const Bf16Inputs& x);
void multiply(std::span<const Product<PackedFp4>> products, const Bf16Inputs& x);

}  // namespace neap
