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
// uniform: in [0, 1). sharpness > 0. Safe for centres however far outside the box.
int sample_code(double centre, double sharpness, int highest, double uniform);

// The uniform number of one draw: a pure function of its place.
double draw_uniform(std::uint64_t key, std::uint64_t row, std::uint32_t path, std::uint32_t input);

}  // namespace neap
