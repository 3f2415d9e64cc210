// Isa::avx2 of kernels/integer_level.h.
#include "kernels/integer_avx2.h"

namespace neap {
namespace {

// 8 rows from `row` of a pair against `tokens` tokens from `first`.
template <std::size_t tokens>
void tile(const IntegerPair& pair, const IntegerTokens& x, std::size_t first, std::size_t row,
          const KernelOutput& out) {
  __m256 sums[tokens];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (std::size_t b = 0; b < pair.blocks; ++b) {
    const std::uint8_t* block = pair.values + b * pair.block * (kVectorBytes / 2) + 4 * row;
    const auto weights = [&](std::size_t k) { return load_256(block + k * 2 * kVectorBytes); };
    const std::int8_t* inputs = x.entries + first * x.stride + b * pair.block;
    __m256i dots[tokens];
    for (std::size_t t = 0; t < tokens; ++t) {
      const int start = x.starts[(first + t) * pair.blocks + b];
      dots[t] = _mm256_set1_epi32(start);
      if (!pair.zeros) continue;
      const __m256 zero = _mm256_loadu_ps(pair.zeros + b * kPairRows + row);
      dots[t] = _mm256_mullo_epi32(dots[t], _mm256_cvtps_epi32(zero));
    }
    if (pair.wide)
      add_wide_dots<tokens>(inputs, x.stride, pair.block, weights, dots);
    else
      add_dots<tokens>(inputs, x.stride, pair.block, weights, dots);
    const __m256 w_scale = _mm256_loadu_ps(pair.scales + b * kPairRows + row);
    for (std::size_t t = 0; t < tokens; ++t) {
      const __m256 x_scale = _mm256_set1_ps(x.scales[(first + t) * pair.blocks + b]);
      sums[t] =
          _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), _mm256_mul_ps(x_scale, w_scale), sums[t]);
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) store_rows(sums[t], factor_of(x, first + t), first + t, row, out);
}

void many(const IntegerPair& pair, const IntegerTokens& x, std::size_t tokens,
          const KernelOutput& out) {
  for (std::size_t row = 0; row < out.rows; row += kHalfRows) {
    std::size_t t = 0;
    for (; t + 4 <= tokens; t += 4) tile<4>(pair, x, t, row, out);
    for (; t < tokens; ++t) tile<1>(pair, x, t, row, out);
  }
}

void starts(const std::int8_t* entries, std::size_t blocks, std::size_t block, int offset,
            std::int32_t* to) {
  for (std::size_t b = 0; b < blocks; ++b) {
    std::int32_t sum = 0;
    for (std::size_t c = 0; c < block; ++c) sum += entries[b * block + c];
    to[b] = -offset * sum;
  }
}

}  // namespace

extern const IntegerKernels kIntegerKernelsAvx2;
const IntegerKernels kIntegerKernelsAvx2 = {Isa::avx2, many, starts};

}  // namespace neap
