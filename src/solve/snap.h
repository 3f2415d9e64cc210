// The nearest point of a grid, the one rounding that every solver shares.
#pragma once

#include <algorithm>

namespace neap {

// The code in [0, highest] nearest to value / scale + zero, ties to even. Codes are small integers kept in
// floats, so that loops over them vectorize: adding 2^23 rounds to nearest even at any instruction set.
inline float nearest_code(float value, float scale, float zero, float highest) {
  constexpr float kRound = 0x1p23f;
  const float code = value / scale + zero;
  const float boxed = std::min(std::max(code, 0.0f), highest);
  return (boxed + kRound) - kRound;
}

}  // namespace neap
