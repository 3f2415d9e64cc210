#include "codec/minifloat.h"

#include <bit>

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

}  // namespace neap
