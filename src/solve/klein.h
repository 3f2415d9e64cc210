// Klein's randomized nearest plane, truncated to the box. Based on: S. Liu, C. Ling, D. Stehle, "Decoding by
// sampling: a randomized lattice algorithm for bounded distance decoding", arXiv 1003.0064, section IV.
#pragma once

#include <cstddef>
#include <cstdint>

namespace neap {

// The root rho > 1 of paths = (e rho)^(2 dimension / rho). paths >= 1; infinity for 1, where the only
// path is the greedy one in the limit.
double klein_rho(std::size_t dimension, int paths);

// A draw from P(code) proportional to exp(-sharpness (code - centre)^2) over the integers 0 .. highest.
// uniform: in [0, 1). sharpness >= 0. Safe for centres however far outside the box.
int sample_code(double centre, double sharpness, int highest, double uniform);

// Where a tensor's draws come from: a number is a pure function of (key, row, path, input).
struct DrawPlace {
  std::uint64_t key = 0;
  std::uint32_t path = 0, input = 0;
};

// One draw for each of `count` rows, by the same law in fp32 and many rows at a time.
void sample_codes(const DrawPlace& place, const std::uint64_t* row, const float* centre,
                  const float* sharpness, int highest, std::size_t count, std::uint8_t* code);

}  // namespace neap
