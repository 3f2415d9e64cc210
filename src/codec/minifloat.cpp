#include "codec/minifloat.h"

#include <bit>
#include <limits>

namespace neap {

float e4m3_to_float(E4m3 bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & kE4m3Sign) << 24;
  const std::uint32_t magnitude = bits & 0x7fu;
  // As an fp32 of the same exponent field, 2^-120 too small; subnormals come out of it by
  // themselves.
  const float finite = std::bit_cast<float>(magnitude << 20) * 0x1p120f;
  const std::uint32_t u =
      magnitude == kE4m3NaN ? 0x7fc00000u : std::bit_cast<std::uint32_t>(finite);
  return std::bit_cast<float>(u | sign);
}

E4m3 float_to_e4m3(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (u >> 24) & 0x80u;
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<E4m3>(sign | kE4m3NaN);
  if (magnitude >= 0x43e00000u) return static_cast<E4m3>(sign | kE4m3Largest);  // 448
  if (magnitude < 0x3c800000u) {
    // Below 2^-6 adding 2^14 lets the adder round at 2^-9, to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;
    return static_cast<E4m3>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x46800000u));
  }
  const std::uint32_t rounded = magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u);
  return static_cast<E4m3>(sign | (rounded >> 20));
}

float e2m1_to_float(E2m1 bits) {
  constexpr float kMagnitudes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  const float magnitude = kMagnitudes[bits & kE2m1Largest];
  return bits & kE2m1Sign ? -magnitude : magnitude;
}

E2m1 float_to_e2m1(float value) {
  const float m = value < 0 ? -value : value;
  const int index = (m > 0.25f) + (m >= 0.75f) + (m > 1.25f) + (m >= 1.75f) + (m > 2.5f) + (m >= 3.5f) + (m > 5.0f);
  return static_cast<E2m1>(index | (value < 0 && index > 0 ? kE2m1Sign : 0));
}

float e8m0_to_float(E8m0 bits) {
  if (bits == kE8m0NaN) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>(bits == 0 ? 0x00400000u : static_cast<std::uint32_t>(bits) << 23);
}

}  // namespace neap
