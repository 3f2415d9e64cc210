// What the files of Isa::avx512 share. For those files alone.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/integer_level.h"

namespace neap {

// Four activations in all lanes.
static inline __m512i four(const std::int8_t* entries) {
  std::int32_t value;
  std::memcpy(&value, entries, sizeof value);
  return _mm512_set1_epi32(value);
}

// The activations of long rows do not stay in the first-level cache beside the weights that pass
// through it, and while those are on their way a miss costs more than it seems to.
static inline void fetch_ahead(const std::int8_t* entries) {
  constexpr std::size_t kAhead = 128;  // of 128, 256 and 512 bytes the best
  _mm_prefetch(entries + kAhead, _MM_HINT_T0);
}

// E4M3 in the top bytes to fp32: exponent and mantissa where fp32 has them, then the exponent's
// bias by a multiplication that holds for subnormal numbers too.
static inline __m512 e4m3_of_top(__m512i words) {
  const __m512i sign = _mm512_and_si512(words, _mm512_set1_epi32(INT32_MIN));
  const __m512i magnitude = _mm512_and_si512(words, _mm512_set1_epi32(0x7f000000));
  const __m512i bits = _mm512_or_si512(sign, _mm512_srli_epi32(magnitude, 4));
  return _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1p120f));
}

static inline float factor_of(const IntegerTokens& x, std::size_t token) {
  return x.factors ? x.factors[token] : 1;
}

// Results of a token and the 16 rows from `first` of the panel or pair.
static inline void store_rows(__m512 sum, float factor, std::size_t token,
                              std::size_t first, const KernelOutput& out) {
  if (first >= out.rows) return;
  const std::size_t left = out.rows - first;
  const auto there = static_cast<__mmask16>(left >= kPanelRows ? 0xffff : (1u << left) - 1);
  sum = _mm512_mul_ps(sum, _mm512_set1_ps(factor));
  if (out.bias) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(there, out.bias + first));
  _mm512_mask_storeu_ps(out.y + token * out.stride + first, there, sum);
}

}  // namespace neap
