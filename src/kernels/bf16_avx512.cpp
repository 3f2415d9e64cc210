// Isa::avx512bf16 of kernels/bf16_level.h.
#include "kernels/integer_avx512.h"

// After it: the level's instructions.
#include "kernels/bf16_level.h"
#include "kernels/with_counts.h"

namespace neap {
namespace {

constexpr std::size_t kTileTokens = 6;  // 2 x 6 dots, as many sums, two of weights
constexpr std::size_t kSteps = 4;       // of four columns, which any block is a multiple of

inline __m512bh halves(__m512i v) { return reinterpret_cast<__m512bh>(v); }

// A pair of activations in all lanes.
inline __m512bh pair_at(const Bf16* x) {
  std::int32_t value;
  std::memcpy(&value, x, sizeof value);
  return halves(_mm512_set1_epi32(value));
}

inline const Bf16* inputs_of(const Bf16Tokens& x) {
  return reinterpret_cast<const Bf16*>(x.values);
}

void round(const float* x, std::size_t count, std::byte* to) {
  const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  const __m512 least = _mm512_set1_ps(0x1p-100f);
  for (std::size_t c = 0; c < count; c += 16) {
    const std::size_t left = count - c;
    const auto there = static_cast<__mmask16>(left >= 16 ? 0xffff : (1u << left) - 1);
    const __m512 v = _mm512_permutexvar_ps(order, _mm512_maskz_loadu_ps(there, x + c));
    const __mmask16 large = _mm512_cmp_ps_mask(_mm512_abs_ps(v), least, _CMP_NLT_UQ);  // or NaN
    const auto rounded = reinterpret_cast<__m256i>(_mm512_maskz_cvtneps_pbh(large, v));
    const std::size_t whole = (left + 3) / 4 * 4;
    const auto stored = static_cast<__mmask16>(whole >= 16 ? 0xffff : (1u << whole) - 1);
    _mm256_mask_storeu_epi16(to + c * sizeof(Bf16), stored, rounded);
  }
}

// Four columns of a panel, a byte each, as two vectors of pairs.
struct Pairs {
  __m512i even, odd;
};

// -32 to 31 in bf16.
constexpr auto kIntegers = [] {
  struct {
    Bf16 bits[64];
  } table{};
  for (int i = 0; i < 64; ++i) {
    const auto value = __builtin_bit_cast(std::uint32_t, static_cast<float>(i - 32));
    table.bits[i] = static_cast<Bf16>(value >> 16);
  }
  return table;
}();

// Values less zero are in [-32, 31]: looked up by value - zero + 32, of which vpermi2w takes six
// bits.
class Narrow {
 public:
  // zero: of each row.
  void set_zeros(__m512i zero) {
    const __m512i shift = _mm512_sub_epi32(_mm512_set1_epi32(32), zero);
    const __m512i lowest = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
    shift_ = _mm512_shuffle_epi8(shift, lowest);
  }
  inline __attribute__((always_inline)) Pairs operator()(const std::uint8_t* values) const {
    const __m512i index = _mm512_add_epi8(_mm512_load_si512(values), shift_);
    return {_mm512_permutex2var_epi16(low_, index, high_),
            _mm512_permutex2var_epi16(low_, _mm512_srli_epi16(index, 8), high_)};
  }

 private:
  __m512i low_ = _mm512_loadu_si512(kIntegers.bits);
  __m512i high_ = _mm512_loadu_si512(kIntegers.bits + 32);
  __m512i shift_;
};

// Any byte less any byte.
class Wide {
 public:
  void set_zeros(__m512i zero) { zero_ = zero; }
  inline __attribute__((always_inline)) Pairs operator()(const std::uint8_t* values) const {
    const __m512i four = _mm512_load_si512(values);
    return {pair(byte(four), byte(_mm512_srli_epi32(four, 16))),
            pair(byte(_mm512_srli_epi32(four, 8)), _mm512_srli_epi32(four, 24))};
  }

 private:
  static __m512i byte(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi32(255)); }
  // Integers of at most 8 bits and a sign have no bits in the lower half of an fp32.
  inline __attribute__((always_inline)) __m512i pair(__m512i lower, __m512i upper) const {
    const __m512i low = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_sub_epi32(lower, zero_)));
    const __m512i high = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_sub_epi32(upper, zero_)));
    return _mm512_or_si512(_mm512_srli_epi32(low, 16), high);
  }

  __m512i zero_;
};

__m512i zeros_at(const IntegerPair& pair, int offset, std::size_t at) {
  return pair.zeros ? _mm512_cvtps_epi32(_mm512_load_ps(pair.zeros + at))
                    : _mm512_set1_epi32(offset);
}

template <class Values>
void widen_as(const IntegerPair& pair, int offset, Bf16* to) {
  Values values[2];
  const std::uint8_t* from = pair.values;
  for (std::size_t b = 0; b < pair.blocks; ++b) {
    for (std::size_t half = 0; half < 2; ++half)
      values[half].set_zeros(zeros_at(pair, offset, b * kPairRows + half * kPanelRows));
    Bf16* odd = to + pair.block / 2 * kPairRows;
    for (std::size_t k = 0; k < pair.block; k += 4, from += 2 * kVectorBytes) {
      for (std::size_t half = 0; half < 2; ++half) {
        const Pairs pairs = values[half](from + half * kVectorBytes);
        _mm512_store_si512(to + k / 4 * 2 * kPairRows + half * 2 * kPanelRows, pairs.even);
        _mm512_store_si512(odd + k / 4 * 2 * kPairRows + half * 2 * kPanelRows, pairs.odd);
      }
    }
    to += pair.block * kPairRows;
  }
}

void widen(const IntegerPair& pair, int offset, Bf16* to) {
  pair.wide ? widen_as<Wide>(pair, offset, to) : widen_as<Narrow>(pair, offset, to);
}

template <std::size_t tokens>
void tile(const Bf16Pair& pair, const Bf16* x, std::size_t stride, std::size_t first,
          const KernelOutput& out) {
  __m512 sums[tokens][2];
  for (auto& sum : sums) sum[0] = sum[1] = _mm512_setzero_ps();
  const Bf16* values = pair.values;
  x += first * stride;
  for (std::size_t b = 0; b < pair.blocks; ++b, x += pair.block) {
    const __m512 s0 = _mm512_load_ps(pair.scales + b * kPairRows);
    const __m512 s1 = _mm512_load_ps(pair.scales + b * kPairRows + kPanelRows);
    for (std::size_t parity = 0; parity < 2; ++parity) {
      __m512 dots[tokens][2];
      for (auto& dot : dots) dot[0] = dot[1] = _mm512_setzero_ps();
      const Bf16* inputs = x + 2 * parity;
      for (std::size_t k = 0; k < pair.block; k += 4 * kSteps, values += 2 * kSteps * kPairRows) {
#pragma GCC unroll 4
        for (std::size_t i = 0; i < kSteps; ++i) {
          const __m512bh w0 = halves(_mm512_load_si512(values + i * 2 * kPairRows));
          const __m512bh w1 = halves(_mm512_load_si512(values + i * 2 * kPairRows + 2 * kPanelRows));
#pragma GCC unroll 6
          for (std::size_t t = 0; t < tokens; ++t) {
            const __m512bh value = pair_at(inputs + t * stride + k + 4 * i);
            dots[t][0] = _mm512_dpbf16_ps(dots[t][0], w0, value);
            dots[t][1] = _mm512_dpbf16_ps(dots[t][1], w1, value);
          }
        }
      }
#pragma GCC unroll 6
      for (std::size_t t = 0; t < tokens; ++t) {
        sums[t][0] = _mm512_fmadd_ps(dots[t][0], s0, sums[t][0]);
        sums[t][1] = _mm512_fmadd_ps(dots[t][1], s1, sums[t][1]);
      }
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    store_rows(sums[t][0], pair.factor, first + t, 0, out);
    store_rows(sums[t][1], pair.factor, first + t, kPanelRows, out);
  }
}

void many(const Bf16Pair& pair, const Bf16Tokens& x, std::size_t tokens, const KernelOutput& out) {
  const Bf16* values = inputs_of(x);
  std::size_t t = 0;
  for (; t + kTileTokens <= tokens; t += kTileTokens)
    tile<kTileTokens>(pair, values, x.stride, t, out);
  switch (tokens - t) {
    case 1:
      return tile<1>(pair, values, x.stride, t, out);
    case 2:
      return tile<2>(pair, values, x.stride, t, out);
    case 3:
      return tile<3>(pair, values, x.stride, t, out);
    case 4:
      return tile<4>(pair, values, x.stride, t, out);
    case 5:
      return tile<5>(pair, values, x.stride, t, out);
    default:
      return;
  }
}

template <class Values, std::size_t tokens>
void few_of(const IntegerPair& pair, int offset, const Bf16Tokens& tokens_in, float* to) {
  const Bf16* x = inputs_of(tokens_in);
  const std::uint8_t* from = pair.values;
  Values values;
  __m512 sums[tokens];
  for (std::size_t t = 0; t < tokens; ++t) sums[t] = _mm512_loadu_ps(to + t * kPanelRows);
  for (std::size_t b = 0; b < pair.blocks; ++b, x += pair.block) {
    values.set_zeros(zeros_at(pair, offset, b * kPairRows));
    __m512 even[tokens], odd[tokens];
    for (std::size_t t = 0; t < tokens; ++t) even[t] = odd[t] = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (std::size_t k = 0; k < pair.block; k += 4, from += 2 * kVectorBytes) {
      const Pairs pairs = values(from);
#pragma GCC unroll 4
      for (std::size_t t = 0; t < tokens; ++t) {
        const Bf16* inputs = x + t * tokens_in.stride + k;
        even[t] = _mm512_dpbf16_ps(even[t], halves(pairs.even), pair_at(inputs));
        odd[t] = _mm512_dpbf16_ps(odd[t], halves(pairs.odd), pair_at(inputs + 2));
      }
    }
    const __m512 scale = _mm512_load_ps(pair.scales + b * kPairRows);
    for (std::size_t t = 0; t < tokens; ++t)
      sums[t] = _mm512_fmadd_ps(odd[t], scale, _mm512_fmadd_ps(even[t], scale, sums[t]));
  }
  for (std::size_t t = 0; t < tokens; ++t) _mm512_storeu_ps(to + t * kPanelRows, sums[t]);
}

void few(const IntegerPair& pair, int offset, const Bf16Tokens& x, std::size_t tokens,
         float* sums) {
  with_tokens(tokens, [&]<std::size_t count>() {
    pair.wide ? few_of<Wide, count>(pair, offset, x, sums)
              : few_of<Narrow, count>(pair, offset, x, sums);
  });
}

}  // namespace

extern const Bf16Kernels kBf16KernelsAvx512;
const Bf16Kernels kBf16KernelsAvx512 = {Isa::avx512bf16, false, round, widen, many, few};

}  // namespace neap
