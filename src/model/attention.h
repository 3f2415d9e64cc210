// Causal attention over keys and values that lie as operands, in tiles: no matrix of tokens x
// tokens is ever kept. Rabe and Staats, arXiv 2112.05682; Dao et al., arXiv 2205.14135.
#pragma once

#include <cstddef>

#include "model/block.h"
#include "model/kv_cache.h"
#include "neap/matrix.h"

namespace neap {

// Attention of `length` new tokens per sequence, at positions start .. start + length - 1; position
// i sees positions <= i that are, with a window, less than `window` away. Writes the new tokens'
// keys and values to `cache` (which has room for them, and holds those before `start`), and to `a`
// what the o projection reads. h: (sequences * length, hidden), one sequence after another; a: (the
// same, heads * head_dim).
void attend(const ModelConfig& config, const Block& block, const RopeTable& rope,
            const KeyValues& cache, std::size_t start, std::size_t length,
            MatrixView<const float> h, MatrixView<float> a);

}  // namespace neap
