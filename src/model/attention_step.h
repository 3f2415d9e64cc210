// Attention of one new token per query head against a cache.
#pragma once

#include <cstddef>

#include "model/elementwise.h"
#include "model/kv_cache.h"
#include "neap/matrix.h"

namespace neap {

// The query heads of one kv head against the keys and values in rows [row, row + positions) of the
// cache. queries: (group, head_dim), scaled for scores in base 2; states: group of them, fresh, which
// take in the scores; out: group * head_dim values, the softmax of these positions alone. On the
// calling thread.
void attend_step(const KeyValues& cache, Operand operand, std::size_t row, std::size_t positions,
                 MatrixView<const float> queries, SoftmaxState* states, float* out);

}  // namespace neap
