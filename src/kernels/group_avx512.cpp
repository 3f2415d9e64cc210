// Isa::avx512 of kernels/group_level.h.
#include "kernels/integer_avx512.h"

// After it: the level's instructions.
#include "kernels/group_level.h"

namespace neap {
namespace {

constexpr std::size_t kVectors = kChunk / 4;  // of four columns

// A chunk's codes, a byte each, by vectors of four columns.
template <int bits>
inline __attribute__((always_inline)) void unpack(const std::uint8_t* chunk, __m512i* codes) {
  const auto vector = [&](std::size_t i) { return _mm512_loadu_si512(chunk + i * kVectorBytes); };
  if constexpr (bits == 8) {
#pragma GCC unroll 8
    for (std::size_t g = 0; g < kVectors; ++g) codes[g] = vector(g);
  } else if constexpr (bits == 4) {
    const __m512i mask = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (std::size_t j = 0; j < kVectors / 2; ++j) {
      const __m512i both = vector(j);
      codes[2 * j] = _mm512_and_si512(both, mask);
      codes[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
    }
  } else {
    const __m512i mask = _mm512_set1_epi8(3);
#pragma GCC unroll 8
    for (unsigned g = 0; g < kVectors; ++g) {
      const __m512i lower = _mm512_srli_epi16(vector(g / 4), g % 4 * 2);
      if constexpr (bits == 2) {
        codes[g] = _mm512_and_si512(lower, mask);
      } else {
        const __m512i third = vector(2);
        const __m512i upper =
            g < 2 ? _mm512_slli_epi16(third, 2 - g) : _mm512_srli_epi16(third, g - 2);
        constexpr int kSelect = 0xca;  // bits of the second operand where the first has ones
        const __m512i all = _mm512_ternarylogic_epi32(mask, lower, upper, kSelect);
        codes[g] = _mm512_and_si512(all, _mm512_set1_epi8(7));
      }
    }
  }
}

inline __m512 scales_of(const GroupShape& shape, const std::uint8_t* panel, std::size_t group) {
  const std::uint8_t* at =
      panel + group * kPanelRows * (shape.scale_type == ScaleType::f32 ? 4 : 2);
  if (shape.scale_type == ScaleType::f32) return _mm512_loadu_ps(at);
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  if (shape.scale_type == ScaleType::f16) return _mm512_cvtph_ps(halves);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

inline __m512 zeros_of(const GroupShape& shape, const std::uint8_t* panel, std::size_t group) {
  const std::uint8_t* at = panel + shape.zero_bytes_at + group * kPanelRows;
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

template <int bits>
void decode_of(const GroupShape& shape, const std::uint8_t* panel, BlockRange range,
               std::uint8_t* values, float* scales, float* zeros) {
  for (std::size_t b = 0; b < range.count; ++b) {
    const std::size_t group = (range.first + b) / shape.blocks_per_group;
    _mm512_storeu_ps(scales + b * kPairRows, scales_of(shape, panel, group));
    if (shape.zeros) _mm512_storeu_ps(zeros + b * kPairRows, zeros_of(shape, panel, group));
  }
  const std::size_t first = range.first * shape.block / kChunk;
  const std::uint8_t* chunk = panel + shape.code_bytes_at + first * bits * kVectorBytes;
  for (std::size_t i = 0; i < range.count * shape.block / kChunk; ++i) {
    __m512i codes[kVectors];
    if (first + i < shape.chunks) {
      unpack<bits>(chunk + i * bits * kVectorBytes, codes);
    } else {
      for (__m512i& code : codes) code = _mm512_setzero_si512();
    }
    for (std::size_t g = 0; g < kVectors; ++g)
      _mm512_storeu_si512(values + (i * kVectors + g) * 2 * kVectorBytes, codes[g]);
  }
}

template <int bits, std::size_t tokens>
void few_of(const GroupShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
            const KernelOutput& out) {
  const std::uint8_t* chunk = panel + shape.code_bytes_at;
  const std::size_t per_block = shape.block / kChunk;
  __m512 sums[tokens];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  std::size_t group = 0, left_of_group = shape.blocks_per_group;
  for (std::size_t b = 0, c = 0; b < shape.blocks; ++b) {
    const std::int8_t* inputs = x.entries + b * shape.block;
    __m512i even[tokens], odd[tokens];
    for (std::size_t t = 0; t < tokens; ++t) {
      even[t] =
          shape.zeros ? _mm512_setzero_si512() : _mm512_set1_epi32(x.starts[t * shape.blocks + b]);
      odd[t] = _mm512_setzero_si512();
    }
    for (const std::size_t end = c + per_block; c < end && c < shape.chunks;
         ++c, chunk += bits * kVectorBytes, inputs += kChunk) {
      __m512i codes[kVectors];
      for (std::size_t i = 0; i < bits; ++i) prefetch(chunk + i * kVectorBytes);
      unpack<bits>(chunk, codes);
#pragma GCC unroll 4
      for (std::size_t g = 0; g < kVectors; g += 2) {
        for (std::size_t t = 0; t < tokens; ++t) {
          const std::int8_t* values = inputs + t * x.stride + 4 * g;
          even[t] = _mm512_dpbusd_epi32(even[t], codes[g], four(values));
          odd[t] = _mm512_dpbusd_epi32(odd[t], codes[g + 1], four(values + 4));
        }
      }
    }
    const __m512 scale = scales_of(shape, panel, group);
    const __m512 zero = shape.zeros ? zeros_of(shape, panel, group) : _mm512_setzero_ps();
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::size_t at = t * shape.blocks + b;
      __m512 dot = _mm512_cvtepi32_ps(_mm512_add_epi32(even[t], odd[t]));
      // Exact: integers below 2^23.
      if (shape.zeros)
        dot = _mm512_fmadd_ps(zero, _mm512_set1_ps(static_cast<float>(x.starts[at])), dot);
      sums[t] = _mm512_fmadd_ps(dot, _mm512_mul_ps(_mm512_set1_ps(x.scales[at]), scale), sums[t]);
    }
    if (--left_of_group == 0) ++group, left_of_group = shape.blocks_per_group;
  }
  for (std::size_t t = 0; t < tokens; ++t) store_rows(sums[t], factor_of(x, t), t, 0, out);
}

template <int bits>
void few_of_bits(const GroupShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
                 std::size_t tokens, const KernelOutput& out) {
  if (tokens == 1) return few_of<bits, 1>(shape, panel, x, out);
  if (tokens == 2) return few_of<bits, 2>(shape, panel, x, out);
  if (tokens == 3) return few_of<bits, 3>(shape, panel, x, out);
  few_of<bits, 4>(shape, panel, x, out);
}

void decode(const GroupShape& shape, const std::uint8_t* panel, BlockRange range,
            std::uint8_t* values, float* scales, float* zeros) {
  if (shape.bits == 2) return decode_of<2>(shape, panel, range, values, scales, zeros);
  if (shape.bits == 3) return decode_of<3>(shape, panel, range, values, scales, zeros);
  if (shape.bits == 4) return decode_of<4>(shape, panel, range, values, scales, zeros);
  decode_of<8>(shape, panel, range, values, scales, zeros);
}

void few(const GroupShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
         std::size_t tokens, const KernelOutput& out) {
  if (shape.bits == 2) return few_of_bits<2>(shape, panel, x, tokens, out);
  if (shape.bits == 3) return few_of_bits<3>(shape, panel, x, tokens, out);
  if (shape.bits == 4) return few_of_bits<4>(shape, panel, x, tokens, out);
  few_of_bits<8>(shape, panel, x, tokens, out);
}

}  // namespace

extern const GroupKernels kGroupKernelsAvx512;
const GroupKernels kGroupKernelsAvx512 = {Isa::avx512, decode, few};

}  // namespace neap
