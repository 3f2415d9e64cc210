// E4M3, the 8-bit float of block scales, in OCP's FN form (OCP 8-bit Floating Point
// Specification 1.0, 2023): 1 sign, 4 exponent bits of bias 7, 3 mantissa bits; subnormals in steps
// of 2^-9; no infinity; 0x7f and 0xff are NaN, so that the largest number is 448.
#pragma once

#include <cstdint>

namespace neap {

using E4m3 = std::uint8_t;  // bit pattern; magnitudes order as the lower seven bits do

inline constexpr E4m3 kE4m3Sign = 0x80, kE4m3Largest = 0x7e, kE4m3NaN = 0x7f;
inline constexpr float kE4m3Max = 448.0f;

float e4m3_to_float(E4m3 bits);

// To nearest, ties to even; beyond 448, infinity included, to 448 with the sign. NaN stays NaN.
E4m3 float_to_e4m3(float value);

}  // namespace neap
