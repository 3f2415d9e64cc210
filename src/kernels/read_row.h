// Rows of packed weights looked up where they are: an embedding that may be the head too.
#pragma once

#include <cstddef>

#include "kernels/group_packed.h"
#include "kernels/lobcq_packed.h"

namespace neap {

// Row `row` of the weights, with the bits that the codec's dequantize gives at every level of
// instructions. Decodes the row's panel; one thread. out: cols values.
void read_row(const PackedGroupInt& weights, std::size_t row, float* out, Isa isa = default_isa());
void read_row(const PackedLobcq& weights, std::size_t row, float* out, Isa isa = default_isa());

}  // namespace neap
