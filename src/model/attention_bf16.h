// The parts of attention on bf16 operands that are not oneDNN's, for machines that have such
// operands at all (bf16_operand() == Operand::bf16), which means AVX512-BF16. Elsewhere bf16 values
// are kept as fp32 and take the general path.
#pragma once

#include <cstddef>

#include "base/half.h"
#include "model/elementwise.h"

namespace neap {

// softmax_step with bf16 weights.
float softmax_step_bf16(SoftmaxState& state, float* scores, std::size_t begin, std::size_t end,
                        std::size_t count, Bf16* weights);

// One new token's attention to the cache, for the `group` query heads that share a kv head.
struct StepBf16 {
  static constexpr std::size_t kColumns = 32;
  static std::size_t round_up(std::size_t size) {
    return (size + kColumns - 1) / kColumns * kColumns;
  }

  std::size_t group, positions, size;  // size: head_dim
  std::size_t stride;                  // of scores and weights: positions rounded up to 16
  const Bf16* weights;                 // (group, stride), 0 from `positions` on
};

// scores(g, p) = queries(g) . keys(p), something finite from `positions` on. queries: (group,
// size), keys: (positions, size), scores: (group, stride).
void score_bf16(const StepBf16& step, const Bf16* queries, const Bf16* keys, float* scores);
// out(g) = factors(g) * sum over p of weights(g, p) values(p). values: (positions, size), totals:
// memory for group * round_up(size) numbers, out: (group, size).
void mix_bf16(const StepBf16& step, const Bf16* values, const float* factors, float* totals,
              float* out);

}  // namespace neap
