#include "solve/klein.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/random.h"
#include "neap/check.h"

namespace neap {
namespace {

// exp(-50) vanishes beside the 53 bits of a uniform number.
constexpr double kNegligible = 50;

}  // namespace

double klein_rho(std::size_t dimension, int paths) {
  NEAP_CHECK(paths >= 1 && dimension >= 1);
  if (paths == 1) return std::numeric_limits<double>::infinity();
  // (2 n / rho) (1 + ln rho) falls from 2 n at rho = 1 to 0.
  const double twice = 2.0 * static_cast<double>(dimension), wanted = std::log(paths);
  const auto above = [&](double rho) { return twice / rho * (1 + std::log(rho)) > wanted; };
  double low = 1, high = 2;
  while (above(high)) high *= 2;
  for (int step = 0; step < 100; ++step) {
    const double middle = 0.5 * (low + high);
    (above(middle) ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

int sample_code(double centre, double sharpness, int highest, double uniform) {
  // Costs relative to the best code's: no exponential ever overflows or all underflow.
  const int best = static_cast<int>(
      std::nearbyint(std::clamp(centre, 0.0, static_cast<double>(highest))));
  const double d = centre - best;
  std::array<double, 256> weight;
  int low = best, high = best;
  const auto cost = [&](int code) {
    const double k = code - best;
    return sharpness * k * (k - 2 * d);
  };
  while (low > 0 && cost(low - 1) < kNegligible) --low;
  while (high < highest && cost(high + 1) < kNegligible) ++high;
  double total = 0;
  for (int code = low; code <= high; ++code) total += weight[code - low] = std::exp(-cost(code));
  double rest = uniform * total;
  for (int code = low; code < high; ++code) {
    rest -= weight[code - low];
    if (rest < 0) return code;
  }
  return high;
}

double draw_uniform(std::uint64_t key, std::uint64_t row, std::uint32_t path, std::uint32_t input) {
  const PhiloxBlock bits = philox(
      {static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(row >> 32), path, input}, key);
  return uniform_double(bits[0], bits[1]);
}

}  // namespace neap
