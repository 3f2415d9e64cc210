// Causal attention over keys and values that lie as operands, in tiles: no matrix of tokens x
// tokens is ever kept. Rabe and Staats, arXiv 2112.05682; Dao et al., arXiv 2205.14135.
#pragma once

#include <cstddef>
#include <span>

#include "model/block.h"
#include "model/kv_cache.h"
#include "neap/matrix.h"

namespace neap {

// Attention of new tokens; position i of a sequence sees its positions <= i that are, with a window,
// less than `window` away. Writes the new tokens' keys and values to `cache` (which has room for
// them, and holds those before), and to `a` what the o projection reads. The segments cover the rows
// of h (rows, hidden) and a (rows, heads * head_dim) in order; no two are of one sequence. A
// segment's bits do not depend on the others.
void attend(const ModelConfig& config, const Block& block, const RopeTable& rope,
            const KeyValues& cache, Operand operand, std::span<const Segment> segments,
            MatrixView<const float> h, MatrixView<float> a);

}  // namespace neap
