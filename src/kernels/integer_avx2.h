// What the files of Isa::avx2 share: half a panel, 8 rows by four columns, in a register. For those
// files alone.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/integer_level.h"

namespace neap {

inline constexpr std::size_t kHalfRows = 8, kHalfBytes = 32;

static inline __m256i four(const std::int8_t* entries) {
  std::int32_t value;
  std::memcpy(&value, entries, sizeof value);
  return _mm256_set1_epi32(value);
}

static inline __m256i load_256(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

// As in the AVX-512 level.
static inline __m256 e4m3_of_top(__m256i words) {
  const __m256i sign = _mm256_and_si256(words, _mm256_set1_epi32(INT32_MIN));
  const __m256i magnitude = _mm256_and_si256(words, _mm256_set1_epi32(0x7f000000));
  const __m256i bits = _mm256_or_si256(sign, _mm256_srli_epi32(magnitude, 4));
  return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p120f));
}

static inline float factor_of(const IntegerTokens& x, std::size_t token) {
  return x.factors ? x.factors[token] : 1;
}

// Results of a token and the 8 rows from `first` of the panel or pair.
static inline void store_rows(__m256 sum, float factor, std::size_t token,
                              std::size_t first, const KernelOutput& out) {
  sum = _mm256_mul_ps(sum, _mm256_set1_ps(factor));
  float results[kHalfRows];
  _mm256_storeu_ps(results, sum);
  float* y = out.y + token * out.stride;
  for (std::size_t r = first; r < out.rows && r < first + kHalfRows; ++r)
    y[r] = out.bias ? results[r - first] + out.bias[r] : results[r - first];
}

// Values up to 63 times activations up to 127: vpmaddubsw's 16-bit sums of two are below 2^14, two
// of them fit.
template <std::size_t tokens, class Weights>
static inline void add_dots(const std::int8_t* inputs, std::size_t stride, std::size_t columns,
                            const Weights& weights, __m256i* dots) {
  for (std::size_t k = 0; k < columns; k += 8) {
    const __m256i w0 = weights(k / 4), w1 = weights(k / 4 + 1);
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::int8_t* values = inputs + t * stride + k;
      const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(w0, four(values)),
                                             _mm256_maddubs_epi16(w1, four(values + 4)));
      dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
  }
}

// The same for any byte: its lower and upper four bits by themselves.
template <std::size_t tokens, class Weights>
static inline void add_wide_dots(const std::int8_t* inputs, std::size_t stride, std::size_t columns,
                                 const Weights& weights, __m256i* dots) {
  const __m256i nibble = _mm256_set1_epi8(15);
  __m256i high[tokens];
  for (__m256i& dot : high) dot = _mm256_setzero_si256();
  const auto lower = [&](std::size_t i) { return _mm256_and_si256(weights(i), nibble); };
  const auto upper = [&](std::size_t i) {
    return _mm256_and_si256(_mm256_srli_epi16(weights(i), 4), nibble);
  };
  add_dots<tokens>(inputs, stride, columns, lower, dots);
  add_dots<tokens>(inputs, stride, columns, upper, high);
  for (std::size_t t = 0; t < tokens; ++t)
    dots[t] = _mm256_add_epi32(dots[t], _mm256_slli_epi32(high[t], 4));
}

}  // namespace neap
