// One grid in another's words: weights that are multiples of their groups' scales, held exactly by integers under zero
// points or by GGUF's blocks, or not at all. Nothing here rounds.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "codec/gguf_blocks.h"
#include "neap/codec.h"
#include "neap/matrix.h"

namespace neap {

// Each value of a group is its scale times an integer; a scale of 0 stands before zeros.
struct Multiples {
  Matrix<float> values;    // (rows, cols)
  Matrix<float> scales;    // (rows, groups), finite, of either sign
  std::int64_t group = 0;  // inputs that share a scale; divides cols
};

// Codes, scales and zero points that stand for the very same values (0 has no sign here), in `layout`, whose group is
// that of `from` or 0 where that is a whole row; nothing if there are none: a value that is no multiple, a span of
// more than 2^bits, without zero points a value off the range around 0, a scale that layout.scale_type has not.
std::optional<QuantizedTensor> exact_groups(const Multiples& from, const GroupLayout& layout);

// The same in blocks of Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0; groups are whole blocks.
std::optional<GgufTensor> exact_blocks(const Multiples& from, DType type);

// Those five, smallest blocks first.
const std::vector<DType>& exact_block_types();

}  // namespace neap
