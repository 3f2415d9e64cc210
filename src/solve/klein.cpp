#include "solve/klein.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/multiversion.h"
#include "base/random.h"
#include "neap/check.h"
#include "solve/snap.h"

namespace neap {
namespace {

// exp(-50) vanishes beside the 53 bits of a uniform number.
constexpr double kNegligible = 50;
// From here on codes three steps from the nearest one weigh less than exp(-20).
constexpr float kSharpEnoughForFive = 3.4f;

// exp(-x) for x >= 0, to 2e-7 of itself down to 1e-35.
inline float exp_of_minus(float x) {
  const float t = std::min(x, 80.0f) * -1.44269504f;
  const float whole = (t + 0x1.8p23f) - 0x1.8p23f, f = t - whole;
  // 2^f on [-1/2, 1/2], Taylor in f ln 2.
  float p = 1.5403530e-4f;
  p = p * f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.0f;
  return p * std::bit_cast<float>((static_cast<std::int32_t>(whole) + 127) << 23);
}

NEAP_MULTIVERSION
void draw_uniforms(const DrawPlace& place, const std::uint64_t* row, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const PhiloxBlock bits = philox({static_cast<std::uint32_t>(row[i]),
                                     static_cast<std::uint32_t>(row[i] >> 32), place.path, place.input},
                                    place.key);
    out[i] = uniform_float(bits[0]);
  }
}

// Inversion over the nearest code and two to either side, in ascending order.
NEAP_MULTIVERSION
void sample_among_five(const float* centre, const float* sharpness, float highest,
                       const float* uniform, std::size_t count, std::uint8_t* code) {
  for (std::size_t i = 0; i < count; ++i) {
    const float best = nearest_code(centre[i], 1, 0, highest), d = centre[i] - best, a = sharpness[i];
    const float below2 = best >= 2 ? exp_of_minus(a * (4 + 4 * d)) : 0.0f;
    const float below1 = best >= 1 ? exp_of_minus(a * (1 + 2 * d)) : 0.0f;
    const float above1 = best + 1 <= highest ? exp_of_minus(a * (1 - 2 * d)) : 0.0f;
    const float above2 = best + 2 <= highest ? exp_of_minus(a * (4 - 4 * d)) : 0.0f;
    const float s1 = below2 + below1, s2 = s1 + 1, s3 = s2 + above1;
    const float at = uniform[i] * (s3 + above2);
    const float steps = (at >= below2 ? 1.0f : 0.0f) + (at >= s1 ? 1.0f : 0.0f) +
                        (at >= s2 ? 1.0f : 0.0f) + (at >= s3 ? 1.0f : 0.0f);
    const float drawn = std::min(std::max(best - 2 + steps, 0.0f), highest);
    code[i] = static_cast<std::uint8_t>(static_cast<int>(drawn));
  }
}

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

void sample_codes(const DrawPlace& place, const std::uint64_t* row, const float* centre,
                  const float* sharpness, int highest, std::size_t count, std::uint8_t* code) {
  constexpr std::size_t kAtOnce = 64;
  std::array<float, kAtOnce> uniform;
  for (std::size_t first = 0; first < count; first += kAtOnce) {
    const std::size_t some = std::min(kAtOnce, count - first);
    draw_uniforms(place, row + first, some, uniform.data());
    sample_among_five(centre + first, sharpness + first, static_cast<float>(highest),
                      uniform.data(), some, code + first);
    for (std::size_t i = 0; i < some; ++i) {
      if (sharpness[first + i] >= kSharpEnoughForFive) continue;
      code[first + i] = static_cast<std::uint8_t>(
          sample_code(centre[first + i], sharpness[first + i], highest, uniform[i]));
    }
  }
}

}  // namespace neap
