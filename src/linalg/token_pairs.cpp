// Compiled for AVX512-BF16 (see CMakeLists.txt).
#include "linalg/token_pairs.h"

#include <algorithm>

#include "base/parallel.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace neap {

TokenPairs::TokenPairs(MatrixView<const float> values)
    : columns_(values.cols), pairs_((values.rows + 1) / 2) {
  lanes_ = reinterpret_cast<std::uint32_t*>(buffer_.bytes(panels() * pairs_ * kLanes * sizeof(std::uint32_t)));
  parallel_for(panels(), [&](std::size_t index) { fill(values, index); });
}

#if defined(__AVX512BF16__)
namespace {

constexpr std::size_t kRows = 8, kVectors = kPairTileCols / TokenPairs::kLanes;  // of a register tile

inline __m512bh as_pairs(__m512i v) { return reinterpret_cast<__m512bh>(v); }

// kRows x kPairTileCols of C. a: the first of kRows neighbouring lanes of a panel. b: the panels.
inline void add_register_tile(const std::uint32_t* a, const std::uint32_t* const* b, std::size_t pairs, MatrixView<float> c) {
  __m512 sum[kRows][kVectors];
  for (auto& row : sum) std::fill_n(row, kVectors, _mm512_setzero_ps());
  for (std::size_t t = 0; t < pairs * TokenPairs::kLanes; t += TokenPairs::kLanes) {
    __m512bh right[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) right[v] = as_pairs(_mm512_load_si512(b[v] + t));
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m512bh left = as_pairs(_mm512_set1_epi32(static_cast<int>(a[t + r])));
      for (std::size_t v = 0; v < kVectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
    }
  }
  for (std::size_t r = 0; r < c.rows; ++r) {
    for (std::size_t v = 0; v < kVectors && v * TokenPairs::kLanes < c.cols; ++v) {
      const std::size_t left = c.cols - v * TokenPairs::kLanes;
      const __mmask16 mask = left >= TokenPairs::kLanes ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
      float* to = c.row(r) + v * TokenPairs::kLanes;
      _mm512_mask_storeu_ps(to, mask, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum[r][v]));
    }
  }
}

}  // namespace

void TokenPairs::fill(MatrixView<const float> values, std::size_t panel) {
  const std::size_t first = panel * kLanes, count = std::min(kLanes, columns_ - first);
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  alignas(64) std::uint16_t order[2 * kLanes];  // a lane of the even token, then the same of the odd one
  for (std::size_t i = 0; i < kLanes; ++i) {
    order[2 * i] = static_cast<std::uint16_t>(i);
    order[2 * i + 1] = static_cast<std::uint16_t>(kLanes + i);
  }
  const __m512i interleave = _mm512_load_si512(order);
  std::uint32_t* to = lanes_ + panel * pairs_ * kLanes;
  for (std::size_t t = 0; t < pairs_; ++t, to += kLanes) {
    const __m512 even = _mm512_maskz_loadu_ps(mask, values.row(2 * t) + first);
    const __m512 odd = 2 * t + 1 < values.rows ? _mm512_maskz_loadu_ps(mask, values.row(2 * t + 1) + first)
                                               : _mm512_setzero_ps();
    const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
    _mm512_store_si512(to, _mm512_permutexvar_epi16(interleave, both));
  }
}

void add_pair_product(const TokenPairs& a, const TokenPairs& b, std::size_t row, std::size_t col, MatrixView<float> c) {
  NEAP_CHECK(c.rows == a.columns() && c.cols == b.columns() && a.pairs() == b.pairs());
  NEAP_CHECK(row % TokenPairs::kLanes == 0 && col % TokenPairs::kLanes == 0 && row < c.rows && col < c.cols);
  const std::uint32_t* right[kVectors];
  for (std::size_t v = 0; v < kVectors; ++v) {
    right[v] = b.panel(std::min(col / TokenPairs::kLanes + v, b.panels() - 1));  // too many: not stored
  }
  const std::size_t end = std::min(c.rows, row + kPairTileRows), width = std::min(kPairTileCols, c.cols - col);
  for (std::size_t r = row; r < end; r += kRows) {
    const std::uint32_t* left = a.panel(r / TokenPairs::kLanes) + r % TokenPairs::kLanes;
    add_register_tile(left, right, a.pairs(), c.block(r, col, std::min(kRows, end - r), width));
  }
}

#else

void TokenPairs::fill(MatrixView<const float>, std::size_t) { NEAP_CHECK(false); }

void add_pair_product(const TokenPairs&, const TokenPairs&, std::size_t, std::size_t, MatrixView<float>) {
  NEAP_CHECK(false);
}

#endif

}  // namespace neap
