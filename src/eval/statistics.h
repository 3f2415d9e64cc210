// Means with their standard errors, and percentiles.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "neap/eval.h"

namespace neap {

// Welford's recurrence: no cancellation however many values come.
class Accumulator {
 public:
  void add(double value) {
    const double step = value - mean_;
    mean_ += step / static_cast<double>(++count_);
    squares_ += step * (value - mean_);
  }
  std::int64_t count() const { return count_; }
  double mean() const { return mean_; }
  // Standard error sqrt(variance / n) with the unbiased variance; 0 for fewer than two values.
  Estimate estimate() const {
    if (count_ < 2) return {mean_, 0};
    const auto n = static_cast<double>(count_);
    return {mean_, std::sqrt(squares_ / (n - 1) / n)};
  }

 private:
  std::int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

// Linear between the two nearest order statistics, as NumPy's default. sorted: ascending, at least one;
// share in [0, 1].
inline double percentile(std::span<const float> sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = below + 1 < sorted.size() ? below + 1 : below;
  const double part = place - static_cast<double>(below);
  return sorted[below] * (1 - part) + sorted[above] * part;
}

}  // namespace neap
