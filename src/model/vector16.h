// Sixteen floats at a time for the forward pass' elementwise loops, in the compiler's own vector
// extension: one source for every instruction set when used inside a NEAP_MULTIVERSION function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace neap {

// Always: how a vector would be passed to a function depends on the instruction set.
#define NEAP_INLINE inline __attribute__((always_inline))

inline constexpr std::size_t kLanes = 16;
using Vec = float __attribute__((vector_size(64)));
using IntVec = std::uint32_t __attribute__((vector_size(64)));

NEAP_INLINE Vec splat(float v) { return Vec{v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v}; }

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

// NaN in `b` comes through.
NEAP_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
NEAP_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }

// All lanes together, in halves.
template <class Combine>
NEAP_INLINE float reduce(Vec v, Combine combine) {
  float lanes[kLanes];
  store(v, lanes);
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lanes[i] = combine(lanes[i], lanes[i + half]);
  }
  return lanes[0];
}
NEAP_INLINE float sum(Vec v) {
  return reduce(v, [](float a, float b) { return a + b; });
}
NEAP_INLINE float largest(Vec v) {
  return reduce(v, [](float a, float b) { return a > b ? a : b; });
}

// 2^x for x <= 127, within one unit in the last place; 0 below -127, NaN for NaN. The power of two
// nearest to x by its exponent bits, the rest, at most 1/2, by a polynomial of least relative error
// (2e-9; Remez-like fit with its constant fixed at 1).
NEAP_INLINE Vec exp2(Vec x) {
  const Vec clamped = max(splat(-127.f), x);
  const Vec round = splat(12582912.f);  // 1.5 * 2^23: adding it leaves no bits below one
  const Vec shifted = clamped + round;
  const Vec f = clamped - (shifted - round);
  Vec p = splat(1.5353362e-4f);
  p = p * f + 1.3398875e-3f;
  p = p * f + 9.6184369e-3f;
  p = p * f + 5.5503324e-2f;
  p = p * f + 2.4022648e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.f;
  const IntVec exponent = (reinterpret_cast<IntVec>(shifted) + 127) << 23;  // of 2^-127: 0
  return p * reinterpret_cast<Vec>(exponent);
}

}  // namespace neap
