// Isa::avx512 of kernels/integer_level.h: vpdpbusd adds to each row's sum the products of its
// lane's four values with four activations that are the same for all lanes.
#include "kernels/integer_avx512.h"

namespace neap {
namespace {

constexpr std::size_t kTileTokens = 6;  // 2 x 6 integer sums, as many of floats, two of weights
constexpr std::size_t kSteps = 4;       // of four columns, which any block is a multiple of

// Zeros: value - zero = dot of the values and, exactly, zero times the start of offset 1. Both are
// integers below 2^23.
template <bool zeros>
inline __m512 finished(__m512i dot, const float* zero, std::size_t at, std::int32_t start) {
  const __m512 values = _mm512_cvtepi32_ps(dot);
  if constexpr (!zeros) return values;
  return _mm512_fmadd_ps(_mm512_load_ps(zero + at), _mm512_set1_ps(static_cast<float>(start)),
                         values);
}

template <std::size_t tokens, bool zeros>
void tile(const IntegerPair& pair, const IntegerTokens& x, std::size_t first,
          const KernelOutput& out) {
  __m512 sums[tokens][2];
  for (auto& sum : sums) sum[0] = sum[1] = _mm512_setzero_ps();
  const std::int8_t* inputs = x.entries + first * x.stride;
  const std::uint8_t* values = pair.values;
  for (std::size_t b = 0; b < pair.blocks; ++b) {
    const std::int32_t* starts = x.starts + first * pair.blocks + b;
    __m512i dots[tokens][2];
    for (std::size_t t = 0; t < tokens; ++t)
      dots[t][0] = dots[t][1] =
          zeros ? _mm512_setzero_si512() : _mm512_set1_epi32(starts[t * pair.blocks]);
    for (std::size_t k = 0; k < pair.block; k += 4 * kSteps, values += 2 * kSteps * kVectorBytes) {
#pragma GCC unroll 4
      for (std::size_t i = 0; i < kSteps; ++i) {
        const __m512i w0 = _mm512_load_si512(values + i * 2 * kVectorBytes);
        const __m512i w1 = _mm512_load_si512(values + i * 2 * kVectorBytes + kVectorBytes);
#pragma GCC unroll 6
        for (std::size_t t = 0; t < tokens; ++t) {
          const __m512i value = four(inputs + t * x.stride + k + 4 * i);
          dots[t][0] = _mm512_dpbusd_epi32(dots[t][0], w0, value);
          dots[t][1] = _mm512_dpbusd_epi32(dots[t][1], w1, value);
        }
      }
    }
    inputs += pair.block;
    const __m512 s0 = _mm512_load_ps(pair.scales + b * kPairRows);
    const __m512 s1 = _mm512_load_ps(pair.scales + b * kPairRows + kPanelRows);
    const float* x_scales = x.scales + first * pair.blocks + b;
#pragma GCC unroll 6
    for (std::size_t t = 0; t < tokens; ++t) {
      const __m512 scale = _mm512_set1_ps(x_scales[t * pair.blocks]);
      const std::int32_t start = zeros ? starts[t * pair.blocks] : 0;
      sums[t][0] = _mm512_fmadd_ps(finished<zeros>(dots[t][0], pair.zeros, b * kPairRows, start),
                                   _mm512_mul_ps(scale, s0), sums[t][0]);
      sums[t][1] = _mm512_fmadd_ps(
          finished<zeros>(dots[t][1], pair.zeros, b * kPairRows + kPanelRows, start),
          _mm512_mul_ps(scale, s1), sums[t][1]);
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    store_rows(sums[t][0], factor_of(x, first + t), first + t, 0, out);
    store_rows(sums[t][1], factor_of(x, first + t), first + t, kPanelRows, out);
  }
}

template <bool zeros>
void many_of(const IntegerPair& pair, const IntegerTokens& x, std::size_t tokens,
             const KernelOutput& out) {
  std::size_t t = 0;
  for (; t + kTileTokens <= tokens; t += kTileTokens) tile<kTileTokens, zeros>(pair, x, t, out);
  switch (tokens - t) {
    case 1:
      return tile<1, zeros>(pair, x, t, out);
    case 2:
      return tile<2, zeros>(pair, x, t, out);
    case 3:
      return tile<3, zeros>(pair, x, t, out);
    case 4:
      return tile<4, zeros>(pair, x, t, out);
    case 5:
      return tile<5, zeros>(pair, x, t, out);
    default:
      return;
  }
}

void many(const IntegerPair& pair, const IntegerTokens& x, std::size_t tokens,
          const KernelOutput& out) {
  pair.zeros ? many_of<true>(pair, x, tokens, out) : many_of<false>(pair, x, tokens, out);
}

void starts(const std::int8_t* entries, std::size_t blocks, std::size_t block, int offset,
            std::int32_t* to) {
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::size_t b = 0; b < blocks; ++b, entries += block) {
    __m512i sums = _mm512_setzero_si512();
    for (std::size_t c = 0; c < block; c += kVectorBytes) {
      const __mmask64 there =
          block - c >= kVectorBytes ? ~__mmask64{0} : (__mmask64{1} << (block - c)) - 1;
      sums = _mm512_dpbusd_epi32(sums, ones, _mm512_maskz_loadu_epi8(there, entries + c));
    }
    to[b] = -offset * _mm512_reduce_add_epi32(sums);
  }
}

}  // namespace

extern const IntegerKernels kIntegerKernelsAvx512;
const IntegerKernels kIntegerKernelsAvx512 = {Isa::avx512, many, starts};

}  // namespace neap
