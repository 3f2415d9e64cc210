// Compiled for AVX512-VNNI (see CMakeLists.txt).
#include "model/attention_int8.h"

#include <cstdlib>

#if defined(__AVX512VNNI__)

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace neap {
namespace {

constexpr std::size_t kLanes = 16, kBytes = 64;  // in a register
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::size_t round_up(std::size_t count, std::size_t step) {
  return (count + step - 1) / step * step;
}

inline __mmask64 lower(std::size_t count) {
  return count >= kBytes ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

// A query as 128 high + low, which are bytes, times `unit`.
struct Digits {
  alignas(kBytes) std::int8_t high[Int8Rows::kLargestSize], low[Int8Rows::kLargestSize];
  std::int32_t bias;  // 128 times the sum of all: keys come with 128 added
  float unit;
};

void split(const float* query, std::size_t size, Digits& to) {
  constexpr float kLargest = 127 * 128;
  float largest = 0, sum = 0;
  for (std::size_t i = 0; i < size; ++i) {
    largest = std::max(largest, std::abs(query[i]));
    sum += std::abs(query[i]);
  }
  const bool usable = largest >= 0x1p-100f && std::isfinite(sum);
  to.unit = usable ? largest / kLargest : std::isfinite(sum) ? 0 : kNaN;
  const float per_unit = usable ? kLargest / largest : 0;
  std::memset(to.high, 0, sizeof to.high);
  std::memset(to.low, 0, sizeof to.low);
  std::int32_t total = 0;
  for (std::size_t i = 0; i < size && usable; ++i) {
    const auto n = static_cast<std::int32_t>(std::nearbyint(query[i] * per_unit));
    const std::int32_t high = (n + 64) >> 7;
    to.high[i] = static_cast<std::int8_t>(high);
    to.low[i] = static_cast<std::int8_t>(n - 128 * high);
    total += n;
  }
  to.bias = 128 * total;
}

// Lane i of the result is the sum of v[i]: as fold_16 of attention_bf16.cpp.
inline __m512i fold_16(__m512i (&v)[kLanes]) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(4));
  const __m512i even =
      _mm512_setr_epi32(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; ++i)
    v[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(v[i], v[i + 8], 0x44),
                            _mm512_shuffle_i32x4(v[i], v[i + 8], 0xee));
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i)
    v[i] = _mm512_add_epi32(_mm512_permutex2var_epi32(v[i], low, v[i + 4]),
                            _mm512_permutex2var_epi32(v[i], high, v[i + 4]));
#pragma GCC unroll 2
  for (std::size_t i = 0; i < 2; ++i)
    v[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(v[i], v[i + 2]),
                            _mm512_unpackhi_epi64(v[i], v[i + 2]));
  return _mm512_add_epi32(_mm512_permutex2var_epi32(v[0], even, v[1]),
                          _mm512_permutex2var_epi32(v[0], odd, v[1]));
}

// query . keys for 16 positions, in units of both; those from `count` on repeat the last one.
template <bool whole>
inline __m512i dots_16(const Digits& query, const std::int8_t* keys, std::size_t size,
                       std::size_t count) {
  __m512i total[kLanes];
#pragma GCC unroll 16
  for (std::size_t p = 0; p < kLanes; ++p) {
    const std::int8_t* key = keys + (whole ? p : std::min(p, count - 1)) * size;
    __m512i high = _mm512_setzero_si512(), low = high;
    for (std::size_t i = 0; i < size; i += kBytes) {
      const __m512i signed_key = _mm512_maskz_loadu_epi8(lower(size - i), key + i);
      const __m512i k = _mm512_xor_si512(signed_key, _mm512_set1_epi8(-128));
      high = _mm512_dpbusd_epi32(high, k, _mm512_load_si512(query.high + i));
      low = _mm512_dpbusd_epi32(low, k, _mm512_load_si512(query.low + i));
    }
    total[p] = _mm512_add_epi32(_mm512_slli_epi32(high, 7), low);
  }
  return _mm512_sub_epi32(fold_16(total), _mm512_set1_epi32(query.bias));
}

// Weights times the values' scales as 256 high + low, in units of `unit`.
struct WeightDigits {
  std::uint8_t *high, *low;
  float unit;
};

WeightDigits split_weights(const Int8Rows& values, const float* weights, std::uint8_t* to) {
  constexpr float kLargest = 65535;
  const std::size_t padded = round_up(values.positions, kLanes);
  __m512 most = _mm512_setzero_ps(), sum = most;
  const auto product = [&](std::size_t p) {
    const auto there = static_cast<__mmask16>(lower(values.positions - p));
    return _mm512_mul_ps(_mm512_maskz_loadu_ps(there, weights + p),
                         _mm512_maskz_loadu_ps(there, values.scales + p));
  };
  for (std::size_t p = 0; p < padded; p += kLanes) {
    most = _mm512_max_ps(most, product(p));
    sum = _mm512_add_ps(sum, product(p));
  }
  const float largest = _mm512_reduce_max_ps(most);
  const bool finite = std::isfinite(_mm512_reduce_add_ps(sum));
  const bool usable = finite && largest >= 0x1p-100f;
  const WeightDigits digits{to, to + padded, usable ? largest / kLargest : finite ? 0 : kNaN};
  const __m512 per_unit = _mm512_set1_ps(usable ? kLargest / largest : 0);
  for (std::size_t p = 0; p < padded; p += kLanes) {
    __m512i n = _mm512_setzero_si512();
    if (usable) n = _mm512_cvtps_epi32(_mm512_mul_ps(product(p), per_unit));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(digits.high + p),
                     _mm512_cvtepi32_epi8(_mm512_srli_epi32(n, 8)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(digits.low + p), _mm512_cvtepi32_epi8(n));
  }
  return digits;
}

inline __m512i four(const std::uint8_t* digits) {
  std::int32_t value;
  std::memcpy(&value, digits, sizeof value);
  return _mm512_set1_epi32(value);
}

// 64 columns from `column` on, for `heads` query heads. Four positions are one term of the sums:
// their rows are interleaved, after which 128-bit lane l of vector j has columns 16 l + 4 j to
// 16 l + 4 j + 3.
template <std::size_t heads>
void mix_columns(const Int8Rows& values, const WeightDigits* weights, const float* factors,
                 std::size_t column, float* out) {
  __m512i high[heads][4], low[heads][4];
  for (std::size_t g = 0; g < heads; ++g) {
    for (std::size_t j = 0; j < 4; ++j) high[g][j] = low[g][j] = _mm512_setzero_si512();
  }
  const __mmask64 mask = lower(values.size - column);
  const auto row = [&](std::size_t p) {
    const __mmask64 there = p < values.positions ? mask : 0;
    return _mm512_maskz_loadu_epi8(there, values.data + p * values.size + column);
  };
  for (std::size_t p = 0; p < values.positions; p += 4) {
    const __m512i a = row(p), b = row(p + 1), c = row(p + 2), d = row(p + 3);
    const __m512i ab_low = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
    const __m512i cd_low = _mm512_unpacklo_epi8(c, d), cd_high = _mm512_unpackhi_epi8(c, d);
    const __m512i v[4] = {
        _mm512_unpacklo_epi16(ab_low, cd_low), _mm512_unpackhi_epi16(ab_low, cd_low),
        _mm512_unpacklo_epi16(ab_high, cd_high), _mm512_unpackhi_epi16(ab_high, cd_high)};
#pragma GCC unroll 3
    for (std::size_t g = 0; g < heads; ++g) {
      const __m512i upper = four(weights[g].high + p), rest = four(weights[g].low + p);
#pragma GCC unroll 4
      for (std::size_t j = 0; j < 4; ++j) {
        high[g][j] = _mm512_dpbusd_epi32(high[g][j], upper, v[j]);
        low[g][j] = _mm512_dpbusd_epi32(low[g][j], rest, v[j]);
      }
    }
  }
  for (std::size_t g = 0; g < heads; ++g) {
    const __m512 unit = _mm512_set1_ps(weights[g].unit * factors[g]);
    alignas(kBytes) float columns[kBytes];
    for (std::size_t j = 0; j < 4; ++j) {
      const __m512 sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[g][j]), _mm512_set1_ps(256),
                                         _mm512_cvtepi32_ps(low[g][j]));
      float lanes[kLanes];
      _mm512_storeu_ps(lanes, _mm512_mul_ps(sum, unit));
      for (std::size_t l = 0; l < 4; ++l)
        std::memcpy(columns + 16 * l + 4 * j, lanes + 4 * l, 4 * sizeof(float));
    }
    const std::size_t count = std::min(kBytes, values.size - column);
    std::memcpy(out + g * values.size + column, columns, count * sizeof(float));
  }
}

}  // namespace

void score_int8(const Int8Rows& keys, MatrixView<const float> queries, std::size_t stride,
                float* scores) {
  Digits query;
  for (std::size_t g = 0; g < queries.rows; ++g) {
    split(queries.row(g), keys.size, query);
    const __m512 unit = _mm512_set1_ps(query.unit);
    for (std::size_t p = 0; p < keys.positions; p += kLanes) {
      const std::size_t count = keys.positions - p;
      const std::int8_t* rows = keys.data + p * keys.size;
      const __m512i dots = count >= kLanes ? dots_16<true>(query, rows, keys.size, count)
                                           : dots_16<false>(query, rows, keys.size, count);
      const auto there = static_cast<__mmask16>(lower(count));
      const __m512 scale = _mm512_mul_ps(_mm512_maskz_loadu_ps(there, keys.scales + p), unit);
      _mm512_storeu_ps(scores + g * stride + p, _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scale));
    }
  }
}

void mix_int8(const Int8Rows& values, std::size_t group, const float* weights, std::size_t stride,
              const float* factors, std::uint8_t* scratch, float* out) {
  constexpr std::size_t kHeads = Int8Rows::kHeads;
  for (std::size_t g = 0; g < group; g += kHeads) {
    const std::size_t heads = std::min(kHeads, group - g);
    WeightDigits split[kHeads];
    for (std::size_t i = 0; i < heads; ++i)
      split[i] = split_weights(values, weights + (g + i) * stride, scratch + i * 2 * stride);
    for (std::size_t column = 0; column < values.size; column += kBytes) {
      const auto mix = heads == 1 ? mix_columns<1> : heads == 2 ? mix_columns<2> : mix_columns<3>;
      mix(values, split, factors + g, column, out + g * values.size);
    }
  }
}

}  // namespace neap

#else

namespace neap {

// Never called: see the header.
void score_int8(const Int8Rows&, MatrixView<const float>, std::size_t, float*) { std::abort(); }
void mix_int8(const Int8Rows&, std::size_t, const float*, std::size_t, const float*, std::uint8_t*,
              float*) {
  std::abort();
}

}  // namespace neap

#endif
