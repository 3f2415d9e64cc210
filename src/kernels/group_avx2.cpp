// Isa::avx2 of kernels/group_level.h.
#include "kernels/group_level.h"
#include "kernels/integer_avx2.h"
#include "kernels/with_counts.h"

namespace neap {
namespace {

// Four columns of half a panel, a byte each. chunk: the half's; g: which four.
template <int bits>
inline __m256i unpack(const std::uint8_t* chunk, std::size_t g) {
  const auto shifted = [&](std::size_t vector, std::size_t shift) {
    return _mm256_srl_epi16(load_256(chunk + vector * kVectorBytes),
                            _mm_cvtsi32_si128(static_cast<int>(shift)));
  };
  const auto below = [](int mask, __m256i v) {
    return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(mask)));
  };
  if constexpr (bits == 8) return load_256(chunk + g * kVectorBytes);
  if constexpr (bits == 4) return below(15, shifted(g / 2, g % 2 * 4));
  if constexpr (bits == 2) return below(3, shifted(g / 4, g % 4 * 2));
  if (g < 6) return below(7, shifted(g / 2, g % 2 * 3));
  return _mm256_or_si256(below(6, shifted(g - 6, 5)), below(1, shifted(2, g)));
}

// Of 8 rows from `row` of a panel.
inline __m256 scales_of(const GroupShape& shape, const std::uint8_t* panel, std::size_t group,
                        std::size_t row) {
  const std::uint8_t* at = panel + scales_at(shape, group) + row * scale_bytes(shape);
  if (shape.scale_type == ScaleType::f32) return _mm256_loadu_ps(reinterpret_cast<const float*>(at));
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  if (shape.scale_type == ScaleType::f16) return _mm256_cvtph_ps(halves);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

inline __m256i zeros_of(const GroupShape& shape, const std::uint8_t* panel, std::size_t group,
                        std::size_t row) {
  const std::uint8_t* at = panel + zeros_at(shape, group) + row;
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
}

template <int bits>
void decode_of(const GroupShape& shape, const std::uint8_t* panel, BlockRange range,
               std::uint8_t* values, float* scales, float* zeros) {
  const std::size_t first = range.first * shape.block / 4;
  for (std::size_t row = 0; row < kPanelRows; row += kHalfRows) {
    for (std::size_t b = 0; b < range.count; ++b) {
      const std::size_t group = (range.first + b) / shape.blocks_per_group;
      _mm256_storeu_ps(scales + b * kPairRows + row, scales_of(shape, panel, group, row));
      if (shape.zeros)
        _mm256_storeu_ps(zeros + b * kPairRows + row,
                         _mm256_cvtepi32_ps(zeros_of(shape, panel, group, row)));
    }
    for (std::size_t k = 0; k < range.count * shape.block / 4; ++k) {
      const std::size_t chunk = (first + k) / (kChunk / 4), g = (first + k) % (kChunk / 4);
      const __m256i value = chunk < shape.chunks
                                ? unpack<bits>(panel + codes_at(shape, chunk) + 4 * row, g)
                                : _mm256_setzero_si256();
      std::uint8_t* to = values + k * 2 * kVectorBytes + 4 * row;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
    }
  }
}

template <int bits, std::size_t tokens>
void few_of(const GroupShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
            std::size_t first, const KernelOutput& out) {
  for (std::size_t row = 0; row < kPanelRows; row += kHalfRows) {
    __m256 sums[tokens];
    for (__m256& sum : sums) sum = _mm256_setzero_ps();
    for (std::size_t b = 0; b < shape.blocks; ++b) {
      const std::size_t group = b / shape.blocks_per_group;
      __m256i dots[tokens];
      for (std::size_t t = 0; t < tokens; ++t) {
        dots[t] = _mm256_set1_epi32(x.starts[(first + t) * shape.blocks + b]);
        if (shape.zeros) dots[t] = _mm256_mullo_epi32(dots[t], zeros_of(shape, panel, group, row));
      }
      for (std::size_t c = b * shape.block / kChunk;
           c < (b + 1) * shape.block / kChunk && c < shape.chunks; ++c) {
        const std::uint8_t* chunk = panel + codes_at(shape, c) + 4 * row;
        const auto weights = [&](std::size_t g) { return unpack<bits>(chunk, g); };
        const std::int8_t* inputs = x.entries + first * x.stride + c * kChunk;
        if constexpr (bits == 8)
          add_wide_dots<tokens>(inputs, x.stride, kChunk, weights, dots);
        else
          add_dots<tokens>(inputs, x.stride, kChunk, weights, dots);
      }
      const __m256 scale = scales_of(shape, panel, group, row);
      for (std::size_t t = 0; t < tokens; ++t) {
        const __m256 x_scale = _mm256_set1_ps(x.scales[(first + t) * shape.blocks + b]);
        sums[t] =
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), _mm256_mul_ps(x_scale, scale), sums[t]);
      }
    }
    for (std::size_t t = 0; t < tokens; ++t) store_rows(sums[t], factor_of(x, first + t), first + t, row, out);
  }
}

void decode(const GroupShape& shape, const std::uint8_t* panel, BlockRange range,
            std::uint8_t* values, float* scales, float* zeros) {
  with_bits(shape.bits, [&]<int bits>() {
    decode_of<bits>(shape, panel, range, values, scales, zeros);
  });
}

void few(const GroupShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
         std::size_t tokens, const KernelOutput& out) {
  with_bits(shape.bits, [&]<int bits>() {
    if (tokens == kFewTokens) return few_of<bits, kFewTokens>(shape, panel, x, 0, out);
    for (std::size_t t = 0; t < tokens; ++t) few_of<bits, 1>(shape, panel, x, t, out);
  });
}

}  // namespace

extern const GroupKernels kGroupKernelsAvx2;
const GroupKernels kGroupKernelsAvx2 = {Isa::avx2, decode, few};

}  // namespace neap
