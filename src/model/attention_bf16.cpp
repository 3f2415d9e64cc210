// Compiled for AVX512-BF16 (see CMakeLists.txt).
#include "model/attention_bf16.h"

#include <cstdlib>

#if defined(__AVX512BF16__)

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace neap {
namespace {

constexpr std::size_t kFloats = 16, kHalves = StepBf16::kColumns;  // in a register
constexpr float kHidden = -1e30f;  // a score that no visible one is below

// 2^x for x <= 0. The fraction's polynomial is off by 3e-6 at most, far less than the weights'
// rounding to bf16.
inline __m512 exp2_of(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);  // x - floor(x)
  __m512 p = _mm512_set1_ps(1.34266857e-2f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.22424728e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.41280213e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.93044841e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.f));
  return _mm512_scalef_ps(p, x);
}

float largest(const float* scores, std::size_t count) {
  __m512 a = _mm512_set1_ps(kHidden), b = a;
  std::size_t i = 0;
  for (; i + 2 * kFloats <= count; i += 2 * kFloats) {
    a = _mm512_max_ps(a, _mm512_loadu_ps(scores + i));
    b = _mm512_max_ps(b, _mm512_loadu_ps(scores + i + kFloats));
  }
  for (; i < count; i += kFloats) a = _mm512_max_ps(a, _mm512_loadu_ps(scores + i));
  return _mm512_reduce_max_ps(_mm512_max_ps(a, b));
}

inline __m512bh load_halves(const Bf16* from, __mmask32 mask) {
  return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, from));
}

// The lanes below `count`.
inline __mmask32 lower(std::size_t count) {
  return count >= kHalves ? ~__mmask32{0} : (__mmask32{1} << count) - 1;
}

// Adds up pairs of neighbours, a's into the even places, b's into the odd ones, and so on up to
// whole registers: lane i of the result of fold_16 is the sum of v[i].
inline __m512 fold_halves(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}
inline __m512 fold_quarters(__m512 a, __m512 b) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(4));
  return _mm512_add_ps(_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b));
}
inline __m512 fold_pairs(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
}
inline __m512 fold_neighbours(__m512 a, __m512 b) {
  const __m512i even = _mm512_setr_epi32(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  return _mm512_add_ps(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
}
inline __m512 fold_16(__m512 (&v)[kFloats]) {
#pragma GCC unroll 8
  for (std::size_t i = 0; i < 8; ++i) v[i] = fold_halves(v[i], v[i + 8]);
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) v[i] = fold_quarters(v[i], v[i + 4]);
  v[0] = fold_pairs(v[0], v[2]);
  v[1] = fold_pairs(v[1], v[3]);
  return fold_neighbours(v[0], v[1]);
}

// query . keys(p) for 16 positions; those from `count` on repeat the last one.
template <bool whole>
inline __m512 dots_16(const Bf16* query, const Bf16* keys, std::size_t size, std::size_t count) {
  __m512 total[kFloats];
#pragma GCC unroll 16
  for (std::size_t p = 0; p < kFloats; ++p) total[p] = _mm512_setzero_ps();
  for (std::size_t i = 0; i < size; i += kHalves) {
    const __mmask32 mask = lower(size - i);
    const __m512bh q = load_halves(query + i, mask);
#pragma GCC unroll 16
    for (std::size_t p = 0; p < kFloats; ++p) {
      const std::size_t row = whole ? p : std::min(p, count - 1);
      total[p] = _mm512_dpbf16_ps(total[p], q, load_halves(keys + row * size + i, mask));
    }
  }
  return fold_16(total);
}

// One register's width of columns of some values.
struct Columns {
  const Bf16* values;
  std::size_t count, size;  // positions, and from one to the next
  __mmask32 mask;
};

// total(g) += weights(g) values for `heads` query heads. A pair of positions is one term of the
// products: their rows are interleaved, which leaves the columns in the order that store_in_order
// undoes. total: rows of two registers.
template <std::size_t heads>
inline void mix_columns(const Bf16* weights, std::size_t stride, const Columns& columns,
                        float* total) {
  __m512 low[heads], high[heads];
  for (std::size_t g = 0; g < heads; ++g) {
    low[g] = _mm512_loadu_ps(total + g * kHalves);
    high[g] = _mm512_loadu_ps(total + g * kHalves + kFloats);
  }
  for (std::size_t p = 0; p < columns.count; p += 2) {
    const Bf16* row = columns.values + p * columns.size;
    const __m512i a = _mm512_maskz_loadu_epi16(columns.mask, row);
    const __mmask32 mask = p + 1 < columns.count ? columns.mask : 0;
    const __m512i b = _mm512_maskz_loadu_epi16(mask, row + columns.size);
    const auto lower_columns = reinterpret_cast<__m512bh>(_mm512_unpacklo_epi16(a, b));
    const auto upper_columns = reinterpret_cast<__m512bh>(_mm512_unpackhi_epi16(a, b));
#pragma GCC unroll 4
    for (std::size_t g = 0; g < heads; ++g) {
      std::int32_t pair;
      std::memcpy(&pair, weights + g * stride + p, sizeof pair);
      const auto weight = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
      low[g] = _mm512_dpbf16_ps(low[g], lower_columns, weight);
      high[g] = _mm512_dpbf16_ps(high[g], upper_columns, weight);
    }
  }
  for (std::size_t g = 0; g < heads; ++g) {
    _mm512_storeu_ps(total + g * kHalves, low[g]);
    _mm512_storeu_ps(total + g * kHalves + kFloats, high[g]);
  }
}

inline void mix_heads(std::size_t heads, const Bf16* weights, std::size_t stride,
                      const Columns& columns, float* total) {
  switch (heads) {
    case 1:
      return mix_columns<1>(weights, stride, columns, total);
    case 2:
      return mix_columns<2>(weights, stride, columns, total);
    case 3:
      return mix_columns<3>(weights, stride, columns, total);
    default:
      return mix_columns<4>(weights, stride, columns, total);
  }
}

// Multiplies by `factor` and puts the columns of one register's width back in order.
void store_in_order(const float* total, float factor, std::size_t count, float* out) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  const __m512 scale_by = _mm512_set1_ps(factor);
  const __m512 low = _mm512_mul_ps(_mm512_loadu_ps(total), scale_by);
  const __m512 high = _mm512_mul_ps(_mm512_loadu_ps(total + kFloats), scale_by);
  const __mmask32 mask = lower(count);
  _mm512_mask_storeu_ps(out, static_cast<__mmask16>(mask),
                        _mm512_permutex2var_ps(low, first, high));
  _mm512_mask_storeu_ps(out + kFloats, static_cast<__mmask16>(mask >> kFloats),
                        _mm512_permutex2var_ps(low, second, high));
}

}  // namespace

float softmax_step_bf16(SoftmaxState& state, float* scores, std::size_t begin, std::size_t end,
                        std::size_t count, Bf16* weights) {
  if (begin == end) {
    std::fill(weights, weights + count, Bf16{});
    return 1.f;
  }
  const std::size_t first = begin / kFloats * kFloats;
  const std::size_t last = (end + kFloats - 1) / kFloats * kFloats;
  std::fill(scores + first, scores + begin, kHidden);
  std::fill(scores + end, scores + last, kHidden);
  const float new_max = std::max(state.max, largest(scores + first, last - first));
  std::fill(weights, weights + first, Bf16{});
  std::fill(weights + last, weights + count, Bf16{});
  const __m512 shift = _mm512_set1_ps(new_max);
  __m512 total = _mm512_setzero_ps();
  for (std::size_t i = first; i < last; i += kFloats) {
    const __m512 weight = exp2_of(_mm512_sub_ps(_mm512_loadu_ps(scores + i), shift));
    total = _mm512_add_ps(total, weight);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + i),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(weight)));
  }
  const float factor = state.sum == 0 ? 1.f : std::exp2(state.max - new_max);
  state.max = new_max;
  state.sum = state.sum * factor + _mm512_reduce_add_ps(total);
  return factor;
}

void score_bf16(const StepBf16& step, const Bf16* queries, const Bf16* keys, float* scores) {
  for (std::size_t p = 0; p < step.positions; p += kFloats) {
    const Bf16* rows = keys + p * step.size;
    const std::size_t count = step.positions - p;
    for (std::size_t g = 0; g < step.group; ++g) {
      const Bf16* query = queries + g * step.size;
      const __m512 result = count >= kFloats ? dots_16<true>(query, rows, step.size, count)
                                             : dots_16<false>(query, rows, step.size, count);
      _mm512_storeu_ps(scores + g * step.stride + p, result);
    }
  }
}

void mix_bf16(const StepBf16& step, const Bf16* values, const float* factors, float* totals,
              float* out) {
  const std::size_t group = step.group, size = step.size;
  std::fill(totals, totals + group * StepBf16::round_up(size), 0.f);
  // Positions go in blocks that stay in L1 while each register's width of columns is walked down.
  constexpr std::size_t kBlock = 64, kHeads = 4;
  for (std::size_t p = 0; p < step.positions; p += kBlock) {
    const std::size_t count = std::min(kBlock, step.positions - p);
    for (std::size_t i = 0; i < size; i += kHalves) {
      for (std::size_t g = 0; g < group; g += kHeads) {
        mix_heads(std::min(kHeads, group - g), step.weights + g * step.stride + p, step.stride,
                  {values + p * size + i, count, size, lower(size - i)},
                  totals + i * group + g * kHalves);
      }
    }
  }
  for (std::size_t i = 0; i < size; i += kHalves) {
    for (std::size_t g = 0; g < group; ++g) {
      store_in_order(totals + i * group + g * kHalves, factors[g], size - i, out + g * size + i);
    }
  }
}

}  // namespace neap

#else

namespace neap {

// Never called: machines without AVX512-BF16 have no bf16 operands.
float softmax_step_bf16(SoftmaxState&, float*, std::size_t, std::size_t, std::size_t, Bf16*) {
  std::abort();
}
void score_bf16(const StepBf16&, const Bf16*, const Bf16*, float*) { std::abort(); }
void mix_bf16(const StepBf16&, const Bf16*, const float*, float*, float*) { std::abort(); }

}  // namespace neap

#endif
