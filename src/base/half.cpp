#include "base/half.h"

#include "base/multiversion.h"

namespace neap {
namespace {

// Branch-free so that the bulk loops vectorize. Subnormals are rescaled by an exact multiplication.
inline float widen(Fp16 bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  const float finite = std::bit_cast<float>(magnitude << 13) * std::bit_cast<float>(0x77800000u);
  const std::uint32_t special = 0x7f800000u | (magnitude << 13);  // inf, NaN
  const std::uint32_t u = magnitude >= 0x7c00u ? special : std::bit_cast<std::uint32_t>(finite);
  return std::bit_cast<float>(u | sign);
}

inline Fp16 narrow(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (u >> 16) & 0x8000u;
  const std::uint32_t magnitude = u & 0x7fffffffu;
  // Below 2^-14 the result is subnormal: adding 0.5 lets the adder round at 2^-24, to nearest even.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u;
  const std::uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const std::uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  std::uint32_t h = magnitude < 0x38800000u ? subnormal : normal;
  h = magnitude >= 0x477ff000u ? 0x7c00u : h;
  h = magnitude > 0x7f800000u ? nan : h;
  return static_cast<Fp16>(h | sign);
}

}  // namespace

float fp16_to_float(Fp16 bits) { return widen(bits); }
Fp16 float_to_fp16(float value) { return narrow(value); }

NEAP_MULTIVERSION
void bf16_to_float(const Bf16* from, float* to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    to[i] = std::bit_cast<float>(static_cast<std::uint32_t>(from[i]) << 16);
  }
}

NEAP_MULTIVERSION
void float_to_bf16(const float* from, Bf16* to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto u = std::bit_cast<std::uint32_t>(from[i]);
    const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const std::uint32_t nan = (u >> 16) | 0x40u;
    to[i] = static_cast<Bf16>((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
  }
}

NEAP_MULTIVERSION
void fp16_to_float(const Fp16* from, float* to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

NEAP_MULTIVERSION
void float_to_fp16(const float* from, Fp16* to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to[i] = narrow(from[i]);
}

}  // namespace neap
