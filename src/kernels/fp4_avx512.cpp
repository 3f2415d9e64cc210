// Isa::avx512 of kernels/fp4_level.h.
#include "kernels/integer_avx512.h"

// After it: the level's instructions.
#include "kernels/fp4_level.h"
#include "kernels/with_counts.h"

namespace neap {
namespace {

constexpr std::size_t kStepColumns = 16;  // two vectors of codes, of which any group is a multiple

class Decoder {
 public:
  explicit Decoder(const Fp4Shape& shape)
      : power_(shape.power), global_(_mm512_set1_ps(shape.global_scale)) {}

  // Half of the scales of the stripe's i-th group.
  inline __attribute__((always_inline)) __m512 half_scales(__m512i stripe, std::size_t i) const {
    const __m128i bits = _mm_cvtsi32_si128(static_cast<int>(24 - 8 * i));
    const __m512i top = _mm512_sll_epi32(stripe, bits);
    const __m512 half = _mm512_set1_ps(0.5f);
    if (!power_) return _mm512_mul_ps(half, _mm512_div_ps(e4m3_of_top(top), global_));
    const __m512i exponent =
        _mm512_srli_epi32(_mm512_and_si512(top, _mm512_set1_epi32(INT32_MIN | 0x7f000000)), 1);
    const __m512i smallest = _mm512_set1_epi32(0x00400000);  // 2^-127, which has no exponent
    return _mm512_mul_ps(half, _mm512_castsi512_ps(_mm512_max_epu32(exponent, smallest)));
  }

  // Of eight columns.
  inline __attribute__((always_inline)) void operator()(const std::uint8_t* codes, __m512i* low,
                                                        __m512i* high) const {
    const __m512i both = _mm512_loadu_si512(codes), nibble = _mm512_set1_epi8(15);
    *low = _mm512_shuffle_epi8(table_, _mm512_and_si512(both, nibble));
    *high = _mm512_shuffle_epi8(table_, _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble));
  }

 private:
  bool power_;
  __m512 global_;
  __m512i table_ =
      _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(kFp4Values)));
};

void decode(const Fp4Shape& shape, const std::uint8_t* panel, BlockRange range,
            std::uint8_t* values, float* scales) {
  const Decoder decoder(shape);
  for (std::size_t g = range.first; g < range.first + range.count; ++g, scales += kPairRows) {
    const std::uint8_t* stripe = panel + g / kStripeGroups * shape.stripe_bytes;
    _mm512_storeu_ps(scales, decoder.half_scales(_mm512_loadu_si512(stripe), g % kStripeGroups));
    const std::uint8_t* codes = panel + codes_at(shape, g);
    for (std::size_t c = 0; c < shape.group; c += 8, codes += kVectorBytes, values += 4 * kVectorBytes) {
      __m512i low, high;
      decoder(codes, &low, &high);
      _mm512_storeu_si512(values, low);
      _mm512_storeu_si512(values + 2 * kVectorBytes, high);
    }
  }
}

template <std::size_t tokens>
void few_of(const Fp4Shape& shape, const std::uint8_t* panel, const IntegerTokens& x,
            const KernelOutput& out) {
  const Decoder decoder(shape);
  const std::size_t group = shape.group, groups = shape.groups;
  const std::int8_t* inputs = x.entries;
  __m512i stripe = _mm512_setzero_si512();
  __m512 sums[tokens];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (std::size_t g = 0; g < groups; ++g) {
    if (g % kStripeGroups == 0) stripe = _mm512_loadu_si512(panel), panel += kVectorBytes;
    for (std::size_t t = 0; t < tokens; ++t) fetch_ahead(inputs + t * x.stride);
    __m512i even[tokens], odd[tokens];
    for (std::size_t t = 0; t < tokens; ++t) {
      even[t] = _mm512_set1_epi32(x.starts[t * groups + g]);
      odd[t] = _mm512_setzero_si512();
    }
    for (std::size_t c = 0; c < group; c += kStepColumns, inputs += kStepColumns) {
#pragma GCC unroll 2
      for (std::size_t i = 0; i < kStepColumns; i += 8, panel += kVectorBytes) {
        __m512i low, high;
        decoder(panel, &low, &high);
        for (std::size_t t = 0; t < tokens; ++t) {
          even[t] = _mm512_dpbusd_epi32(even[t], low, four(inputs + t * x.stride + i));
          odd[t] = _mm512_dpbusd_epi32(odd[t], high, four(inputs + t * x.stride + i + 4));
        }
      }
    }
    const __m512 scale = decoder.half_scales(stripe, g % kStripeGroups);
    for (std::size_t t = 0; t < tokens; ++t) {
      const __m512 dot = _mm512_cvtepi32_ps(_mm512_add_epi32(even[t], odd[t]));
      const __m512 both = _mm512_mul_ps(_mm512_set1_ps(x.scales[t * groups + g]), scale);
      sums[t] = _mm512_fmadd_ps(dot, both, sums[t]);
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) store_rows(sums[t], factor_of(x, t), t, 0, out);
}

void few(const Fp4Shape& shape, const std::uint8_t* panel, const IntegerTokens& x,
         std::size_t tokens, const KernelOutput& out) {
  with_tokens(tokens, [&]<std::size_t count>() { few_of<count>(shape, panel, x, out); });
}

}  // namespace

extern const Fp4Kernels kFp4KernelsAvx512;
const Fp4Kernels kFp4KernelsAvx512 = {Isa::avx512, decode, few};

}  // namespace neap
