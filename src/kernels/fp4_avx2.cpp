// Isa::avx2 of kernels/fp4_level.h.
#include "kernels/integer_avx2.h"

// After it: the level's instructions.
#include "kernels/fp4_level.h"
#include "kernels/with_counts.h"

namespace neap {
namespace {

// Half of the scales of a group, of 8 rows from `row` of a panel.
inline __m256 half_scales(const Fp4Shape& shape, const std::uint8_t* panel, std::size_t group,
                          std::size_t row) {
  const __m256i stripe = load_256(panel + group / kStripeGroups * shape.stripe_bytes + 4 * row);
  const auto bits = static_cast<int>(24 - 8 * (group % kStripeGroups));
  const __m256i top = _mm256_sll_epi32(stripe, _mm_cvtsi32_si128(bits));
  const __m256 half = _mm256_set1_ps(0.5f);
  if (!shape.power)
    return _mm256_mul_ps(half, _mm256_div_ps(e4m3_of_top(top), _mm256_set1_ps(shape.global_scale)));
  const __m256i exponent =
      _mm256_srli_epi32(_mm256_and_si256(top, _mm256_set1_epi32(INT32_MIN | 0x7f000000)), 1);
  const __m256i smallest = _mm256_set1_epi32(0x00400000);  // 2^-127, which has no exponent
  return _mm256_mul_ps(half, _mm256_castsi256_ps(_mm256_max_epu32(exponent, smallest)));
}

// Of four columns, the k-th ones of a group whose codes are given, seen from the half's rows.
inline __m256i values_of(const std::uint8_t* codes, std::size_t k) {
  const auto* table = reinterpret_cast<const __m128i*>(kFp4Values);
  __m256i code = load_256(codes + k / 2 * kVectorBytes);
  if (k % 2 != 0) code = _mm256_srli_epi16(code, 4);
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(table)),
                             _mm256_and_si256(code, _mm256_set1_epi8(15)));
}

void decode(const Fp4Shape& shape, const std::uint8_t* panel, BlockRange range,
            std::uint8_t* values, float* scales) {
  for (std::size_t g = 0; g < range.count; ++g) {
    for (std::size_t row = 0; row < kPanelRows; row += kHalfRows) {
      const std::size_t group = range.first + g;
      _mm256_storeu_ps(scales + g * kPairRows + row, half_scales(shape, panel, group, row));
      const std::uint8_t* codes = panel + codes_at(shape, group) + 4 * row;
      std::uint8_t* to = values + g * shape.group * (kVectorBytes / 2) + 4 * row;
      for (std::size_t k = 0; k < shape.group / 4; ++k)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + k * 2 * kVectorBytes), values_of(codes, k));
    }
  }
}

template <std::size_t tokens>
void few_of(const Fp4Shape& shape, const std::uint8_t* panel, const IntegerTokens& x,
            const KernelOutput& out) {
  for (std::size_t row = 0; row < kPanelRows; row += kHalfRows) {
    __m256 sums[tokens];
    for (__m256& sum : sums) sum = _mm256_setzero_ps();
    for (std::size_t g = 0; g < shape.groups; ++g) {
      const std::uint8_t* codes = panel + codes_at(shape, g) + 4 * row;
      const auto weights = [&](std::size_t k) { return values_of(codes, k); };
      __m256i dots[tokens];
      for (std::size_t t = 0; t < tokens; ++t)
        dots[t] = _mm256_set1_epi32(x.starts[t * shape.groups + g]);
      add_dots<tokens>(x.entries + g * shape.group, x.stride, shape.group, weights, dots);
      const __m256 scale = half_scales(shape, panel, g, row);
      for (std::size_t t = 0; t < tokens; ++t) {
        const __m256 both = _mm256_mul_ps(_mm256_set1_ps(x.scales[t * shape.groups + g]), scale);
        sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), both, sums[t]);
      }
    }
    for (std::size_t t = 0; t < tokens; ++t) store_rows(sums[t], factor_of(x, t), t, row, out);
  }
}

void few(const Fp4Shape& shape, const std::uint8_t* panel, const IntegerTokens& x,
         std::size_t tokens, const KernelOutput& out) {
  with_tokens(tokens, [&]<std::size_t count>() { few_of<count>(shape, panel, x, out); });
}

}  // namespace

extern const Fp4Kernels kFp4KernelsAvx2;
const Fp4Kernels kFp4KernelsAvx2 = {Isa::avx2, decode, few};

}  // namespace neap
