// One new token's attention to keys and values in 8 bits, in integers: neither is decoded. For
// machines with bf16 operands (bf16_operand() == Operand::bf16), all of which have AVX512-VNNI too.
// Queries are rounded to 15 bits, weights times scales to 16, each relative to the largest: both
// far finer than what they meet.
#pragma once

#include <cstddef>
#include <cstdint>

#include "neap/matrix.h"

namespace neap {

// Keys or values of consecutive positions: rows of `size` integers with a scale each.
struct Int8Rows {
  static constexpr std::size_t kLargestSize = 256;  // for which no sum overflows
  static constexpr std::size_t kHeads = 3;          // that are mixed at once

  const std::int8_t* data;
  const float* scales;
  std::size_t positions, size;
};

// scores(g, p) = queries(g) . keys(p), something finite (if all scales are) from `positions` on.
// scores: (group, stride); stride: positions rounded up to 16.
void score_int8(const Int8Rows& keys, MatrixView<const float> queries, std::size_t stride,
                float* scores);
// out(g) = factors(g) * sum over p of weights(g, p) values(p). weights: (group, stride), not
// negative; scratch: kHeads * 2 * stride bytes; out: (group, size). At most 65536 positions.
void mix_int8(const Int8Rows& values, std::size_t group, const float* weights, std::size_t stride,
              const float* factors, std::uint8_t* scratch, float* out);

}  // namespace neap
