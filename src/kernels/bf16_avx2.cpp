// Isa::avx2 of kernels/bf16_level.h, in fp32: every product is exact in it.
#include "kernels/bf16_level.h"
#include "kernels/integer_avx2.h"

namespace neap {
namespace {

constexpr std::size_t kTileTokens = 4;

inline const float* inputs_of(const Bf16Tokens& x) {
  return reinterpret_cast<const float*>(x.values);
}

// The first or the latter columns of eight rows' pairs.
inline __m256 first_of(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}
inline __m256 later_of(__m256i pairs) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

inline __m256 add_pair(__m256 dot, __m256 first, __m256 later, const float* x) {
  dot = _mm256_fmadd_ps(later, _mm256_broadcast_ss(x + 1), dot);
  return _mm256_fmadd_ps(first, _mm256_broadcast_ss(x), dot);
}

// Column `c` of four, less zero, of eight rows.
inline __m256 value_of(__m256i four_columns, int c, __m256i zero) {
  const __m256i byte = _mm256_and_si256(_mm256_srl_epi32(four_columns, _mm_cvtsi32_si128(8 * c)),
                                        _mm256_set1_epi32(255));
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(byte, zero));
}

inline __m256i zeros_at(const IntegerPair& pair, int offset, std::size_t at) {
  return pair.zeros ? _mm256_cvtps_epi32(_mm256_loadu_ps(pair.zeros + at))
                    : _mm256_set1_epi32(offset);
}

// Of columns c and c + 2, as Bf16Pair has them: integers of at most 8 bits have no lower half.
inline __m256i pairs_of(__m256i four_columns, int c, __m256i zero) {
  const __m256i first = _mm256_castps_si256(value_of(four_columns, c, zero));
  const __m256i later = _mm256_castps_si256(value_of(four_columns, c + 2, zero));
  return _mm256_or_si256(_mm256_srli_epi32(first, 16), later);
}

void widen(const IntegerPair& pair, int offset, Bf16* to) {
  for (std::size_t b = 0; b < pair.blocks; ++b, to += pair.block * kPairRows) {
    const std::uint8_t* from = pair.values + b * pair.block * (kVectorBytes / 2);
    Bf16* odd = to + pair.block / 2 * kPairRows;
    for (std::size_t row = 0; row < kPairRows; row += kHalfRows) {
      const __m256i zero = zeros_at(pair, offset, b * kPairRows + row);
      for (std::size_t k = 0; k < pair.block / 4; ++k) {
        const __m256i columns = load_256(from + k * 2 * kVectorBytes + 4 * row);
        const std::size_t at = k * 2 * kPairRows + 2 * row;
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at), pairs_of(columns, 0, zero));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(odd + at), pairs_of(columns, 1, zero));
      }
    }
  }
}

// 16 rows from `row` of a pair.
template <std::size_t tokens>
void tile(const Bf16Pair& pair, const float* x, std::size_t stride, std::size_t first,
          std::size_t row, const KernelOutput& out) {
  __m256 sums[tokens][2];
  for (auto& sum : sums) sum[0] = sum[1] = _mm256_setzero_ps();
  const Bf16* values = pair.values + 2 * row;
  x += first * stride;
  for (std::size_t b = 0; b < pair.blocks; ++b, x += pair.block) {
    const float* scales = pair.scales + b * kPairRows + row;
    for (std::size_t parity = 0; parity < 2; ++parity) {
      __m256 dots[tokens][2];
      for (auto& dot : dots) dot[0] = dot[1] = _mm256_setzero_ps();
      for (std::size_t k = 0; k < pair.block; k += 4, values += 2 * kPairRows) {
        const __m256i w0 = load_256(values), w1 = load_256(values + 2 * kHalfRows);
        for (std::size_t t = 0; t < tokens; ++t) {
          const float* inputs = x + t * stride + k + 2 * parity;
          dots[t][0] = add_pair(dots[t][0], first_of(w0), later_of(w0), inputs);
          dots[t][1] = add_pair(dots[t][1], first_of(w1), later_of(w1), inputs);
        }
      }
      for (std::size_t t = 0; t < tokens; ++t) {
        sums[t][0] = _mm256_fmadd_ps(dots[t][0], _mm256_loadu_ps(scales), sums[t][0]);
        sums[t][1] = _mm256_fmadd_ps(dots[t][1], _mm256_loadu_ps(scales + kHalfRows), sums[t][1]);
      }
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    store_rows(sums[t][0], pair.factor, first + t, row, out);
    store_rows(sums[t][1], pair.factor, first + t, row + kHalfRows, out);
  }
}

void many(const Bf16Pair& pair, const Bf16Tokens& x, std::size_t tokens, const KernelOutput& out) {
  const float* values = inputs_of(x);
  for (std::size_t row = 0; row < out.rows; row += 2 * kHalfRows) {
    std::size_t t = 0;
    for (; t + kTileTokens <= tokens; t += kTileTokens)
      tile<kTileTokens>(pair, values, x.stride, t, row, out);
    for (; t < tokens; ++t) tile<1>(pair, values, x.stride, t, row, out);
  }
}

// One token, eight rows from `row` of the first panel.
void few_rows(const IntegerPair& pair, int offset, const float* x, std::size_t row, float* to) {
  const std::uint8_t* from = pair.values + 4 * row;
  __m256 sum = _mm256_loadu_ps(to + row);
  for (std::size_t b = 0; b < pair.blocks; ++b, x += pair.block) {
    const __m256i zero = zeros_at(pair, offset, b * kPairRows + row);
    __m256 even = _mm256_setzero_ps(), odd = even;
    for (std::size_t k = 0; k < pair.block; k += 4, from += 2 * kVectorBytes) {
      const __m256i columns = load_256(from);
      even = add_pair(even, value_of(columns, 0, zero), value_of(columns, 2, zero), x + k);
      odd = add_pair(odd, value_of(columns, 1, zero), value_of(columns, 3, zero), x + k + 2);
    }
    const __m256 scale = _mm256_loadu_ps(pair.scales + b * kPairRows + row);
    sum = _mm256_fmadd_ps(odd, scale, _mm256_fmadd_ps(even, scale, sum));
  }
  _mm256_storeu_ps(to + row, sum);
}

void few(const IntegerPair& pair, int offset, const Bf16Tokens& x, std::size_t tokens,
         float* sums) {
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t row = 0; row < kPanelRows; row += kHalfRows)
      few_rows(pair, offset, inputs_of(x) + t * x.stride, row, sums + t * kPanelRows);
  }
}

void round(const float* x, std::size_t count, std::byte* to) {
  bf16_kernels(Isa::scalar).round(x, count, to);
}

}  // namespace

extern const Bf16Kernels kBf16KernelsAvx2;
const Bf16Kernels kBf16KernelsAvx2 = {Isa::avx2, true, round, widen, many, few};

}  // namespace neap
