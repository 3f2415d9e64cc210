#include "dot_product_limit.h"

#include <immintrin.h>

namespace neap {
namespace {

constexpr int kSums = 16;  // enough to hide the latency

// Keeps the compiler from seeing what a register holds.
template <class V>
void hide(V& value) {
  asm volatile("" : "+v"(value));
}

}  // namespace

double run_int8_dot_products(std::int64_t rounds) {
  __m512i sums[kSums], a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(1);
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < rounds; ++i) {
    hide(a);
#pragma GCC unroll 16
    for (int s = 0; s < kSums; ++s) sums[s] = _mm512_dpbusd_epi32(sums[s], a, b);
  }
  for (__m512i& sum : sums) hide(sum);
  return static_cast<double>(rounds) * kSums * 2 * 64;
}

double run_bf16_dot_products(std::int64_t rounds) {
  __m512 sums[kSums];
  __m512i a = _mm512_setzero_si512(), b = _mm512_setzero_si512();
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < rounds; ++i) {
    hide(a);
    const auto left = reinterpret_cast<__m512bh>(a), right = reinterpret_cast<__m512bh>(b);
#pragma GCC unroll 16
    for (int s = 0; s < kSums; ++s) sums[s] = _mm512_dpbf16_ps(sums[s], left, right);
  }
  for (__m512& sum : sums) hide(sum);
  return static_cast<double>(rounds) * kSums * 2 * 32;
}

}  // namespace neap
