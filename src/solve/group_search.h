// The scale and zero under which one group of a row loses least: a search over shrunk ranges, then least squares.
#pragma once

#include <cstddef>

#include "solve/grid.h"

namespace neap {

struct GroupScale {
  float scale, zero;  // w^ = scale (code - zero)
};

// Sums over a group under importance: of 1, of the code c, of c^2, of the weight w, of c w.
struct GroupMoments {
  double one = 0, code = 0, square = 0, weight = 0, product = 0;
};

struct GroupSearch {
  const float* weight;
  const float* importance;
  std::size_t count;
  float highest;   // code
  bool symmetric;  // with zero_points: the zero is the middle
  GridSearch search;
  GridForm form;

  // In numbers of `form`; with two levels, as if each group had fp16 numbers of its own (a minimum is no more
  // than 0 then).
  GroupScale best() const;
  // Sum of importance_i (w_i - w^_i)^2 with nearest codes.
  float error(GroupScale at) const;
  // Of the nearest codes.
  GroupMoments moments(GroupScale at) const;
};

}  // namespace neap
