// Attention of one new token per query head against a cache.
#pragma once

#include <cstddef>

#include "model/kv_cache.h"
#include "neap/matrix.h"

namespace neap {

// The query heads of one kv head against `positions` keys and values that begin at byte `offset` of
// the cache. queries: (group, head_dim), scaled for scores in base 2; out: group * head_dim values.
// On the calling thread.
void attend_step(const KeyValues& cache, std::size_t offset, std::size_t positions,
                 MatrixView<const float> queries, float* out);

}  // namespace neap
