// The small floats of block-scaled formats.
//
// E4M3, the 8-bit float of block scales, in OCP's FN form (OCP 8-bit Floating Point Specification 1.0,
// 2023): 1 sign, 4 exponent bits of bias 7, 3 mantissa bits; subnormals in steps of 2^-9; no infinity;
// 0x7f and 0xff are NaN, so that the largest number is 448.
//
// E2M1, the 4-bit float of values, and E8M0, the power of two of their scales, as the OCP Microscaling
// Formats Specification 1.0 (2023) has them: sign, 2 exponent bits of bias 1, 1 mantissa bit (0, 0.5, 1,
// 1.5, 2, 3, 4, 6); 8 exponent bits of bias 127, of which 255 is NaN.
#pragma once

#include <cstdint>

namespace neap {

using E4m3 = std::uint8_t;  // bit pattern; magnitudes order as the lower seven bits do

inline constexpr E4m3 kE4m3Sign = 0x80, kE4m3Largest = 0x7e, kE4m3NaN = 0x7f;
inline constexpr float kE4m3Max = 448.0f;

float e4m3_to_float(E4m3 bits);

// To nearest, ties to even; beyond 448, infinity included, to 448 with the sign. NaN stays NaN.
E4m3 float_to_e4m3(float value);

using E2m1 = std::uint8_t;  // bit pattern in the lower four bits

inline constexpr E2m1 kE2m1Sign = 8, kE2m1Largest = 7;
inline constexpr float kE2m1Max = 6.0f;

float e2m1_to_float(E2m1 bits);

// The magnitude of the nearest E2M1 number, ties to the even mantissa; 6 beyond 5. Branchless, for loops
// that are to be vectorized. magnitude: >= 0.
inline float round_to_e2m1(float magnitude) {
  return (magnitude > 0.25f ? 0.5f : 0.0f) + (magnitude >= 0.75f ? 0.5f : 0.0f) +
         (magnitude > 1.25f ? 0.5f : 0.0f) + (magnitude >= 1.75f ? 0.5f : 0.0f) +
         (magnitude > 2.5f ? 1.0f : 0.0f) + (magnitude >= 3.5f ? 1.0f : 0.0f) +
         (magnitude > 5.0f ? 2.0f : 0.0f);
}

// The same with the sign, as a bit pattern; what rounds to 0 is +0. Not for NaN.
E2m1 float_to_e2m1(float value);

using E8m0 = std::uint8_t;

inline constexpr E8m0 kE8m0NaN = 255;

float e8m0_to_float(E8m0 bits);  // 2^(bits - 127)

}  // namespace neap
