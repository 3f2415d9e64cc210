// One codebook for one cluster, known by the weight of each fixed-point value.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "neap/codebooks.h"

namespace neap {

inline constexpr int kLargestPoint = 4095, kPointsPerUnit = 64;
inline constexpr std::size_t kPoints = 2 * kLargestPoint + 1;

// Weight of n at [n + 4095].
using Histogram = std::vector<double>;
using RealCodebook = std::array<double, kCodebookEntries>;  // ascending, in units

// Squared distance from n to the nearest entry, in squared units, at [n + 4095].
using ErrorTable = std::vector<float>;
template <class Entries>  // ascending numbers
ErrorTable error_table(const Entries& entries) {
  ErrorTable table(kPoints);
  std::size_t nearest = 0;
  for (std::size_t place = 0; place < kPoints; ++place) {
    const double value = (static_cast<double>(place) - kLargestPoint) / kPointsPerUnit;
    const auto distance = [&](std::size_t i) {
      return std::abs(value - static_cast<double>(entries[i]));
    };
    while (nearest + 1 < entries.size() && distance(nearest + 1) <= distance(nearest)) ++nearest;
    table[place] = static_cast<float>(distance(nearest) * distance(nearest));
  }
  return table;
}

// The middles of 16 parts of equal weight. The histogram is not empty.
RealCodebook quantile_codebook(const Histogram& histogram);

// Lloyd-Max (Lloyd 1982): entries become the means of what is nearest to them, until the error
// settles. An entry that nothing is nearest to moves to where the error is largest. Never raises
// the error.
RealCodebook lloyd_max(const Histogram& histogram, const RealCodebook& start);

// The 16 distinct integers in [-31, 31] of least squared error, by dynamic programming over the
// entries (Bruce 1965). The histogram is not empty.
Codebook best_integer_codebook(const Histogram& histogram);

}  // namespace neap
