// 16-bit floats as they lie in files and oneDNN buffers. Every conversion rounds to nearest even;
// NaN stays NaN. The bulk forms give the same bits as the scalar ones.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace neap {

using Bf16 = std::uint16_t;  // bit patterns
using Fp16 = std::uint16_t;

inline float bf16_to_float(Bf16 bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

inline Bf16 float_to_bf16(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return static_cast<Bf16>(nan ? (u >> 16) | 0x40u : rounded);
}

float fp16_to_float(Fp16 bits);
Fp16 float_to_fp16(float value);  // overflow gives infinity, as IEEE 754 says

void bf16_to_float(const Bf16* from, float* to, std::size_t count);
void float_to_bf16(const float* from, Bf16* to, std::size_t count);
void fp16_to_float(const Fp16* from, float* to, std::size_t count);
void float_to_fp16(const float* from, Fp16* to, std::size_t count);

}  // namespace neap
