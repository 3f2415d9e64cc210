// Sixteen floats at a time for the forward pass' elementwise loops, in the compiler's own vector
// extension: one source for every instruction set when used inside a NEAP_MULTIVERSION function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/half.h"

namespace neap {

// Always: how a vector would be passed to a function depends on the instruction set.
#define NEAP_INLINE inline __attribute__((always_inline))

inline constexpr std::size_t kLanes = 16;
using Vec = float __attribute__((vector_size(64)));
using IntVec = std::uint32_t __attribute__((vector_size(64)));
using HalfVec = std::uint16_t __attribute__((vector_size(32)));

NEAP_INLINE Vec splat(float value) { return value - Vec{}; }

NEAP_INLINE Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
NEAP_INLINE void store(Vec v, float* to) { std::memcpy(to, &v, sizeof v); }
// The first `count` < kLanes values; the rest read as zero and are not written.
NEAP_INLINE Vec load_part(const float* from, std::size_t count) {
  Vec v{};
  std::memcpy(&v, from, count * sizeof(float));
  return v;
}
NEAP_INLINE void store_part(Vec v, float* to, std::size_t count) {
  std::memcpy(to, &v, count * sizeof(float));
}

NEAP_INLINE Vec load(const Bf16* from) {
  HalfVec half;
  std::memcpy(&half, from, sizeof half);
  const IntVec wide = __builtin_convertvector(half, IntVec) << 16;
  return reinterpret_cast<Vec>(wide);
}
// To nearest even; NaN stays NaN.
NEAP_INLINE void store(Vec v, Bf16* to) {
  const auto bits = reinterpret_cast<IntVec>(v);
  const IntVec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const IntVec result = v == v ? rounded : (bits >> 16) | 0x40;
  const HalfVec half = __builtin_convertvector(result, HalfVec);
  std::memcpy(to, &half, sizeof half);
}

// NaN in `b` comes through.
NEAP_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
NEAP_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }

NEAP_INLINE float sum(Vec v) {
  float lanes[kLanes];
  store(v, lanes);
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// 2^x, within two units in the last place for -126 <= x <= 127; 0 below -127 and about 2^127 above
// 127.5. NaN in, NaN out. A power of two by its exponent bits, the rest of x (at most 1/2) by the
// Taylor polynomial of degree 7, whose remainder is below 2^-28.
NEAP_INLINE Vec exp2(Vec x) {
  const Vec clamped = min(splat(127.f), max(splat(-127.f), x));
  const Vec round = splat(12582912.f);  // 1.5 * 2^23: adding it leaves no bits below one
  const Vec shifted = clamped + round;
  const Vec f = clamped - (shifted - round);
  Vec p = splat(1.525273380e-5f);
  p = p * f + 1.540353039e-4f;
  p = p * f + 1.333355815e-3f;
  p = p * f + 9.618129108e-3f;
  p = p * f + 5.550410866e-2f;
  p = p * f + 2.402265070e-1f;
  p = p * f + 6.931471806e-1f;
  p = p * f + 1.f;
  const IntVec exponent = (reinterpret_cast<IntVec>(shifted) + 127) << 23;  // of 2^-127: 0
  return p * reinterpret_cast<Vec>(exponent);
}

}  // namespace neap
