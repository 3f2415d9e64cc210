// Isa::avx2 of kernels/lobcq_level.h. There is no look-up in more than 16 bytes, so each codebook
// is looked up by itself.
#include "kernels/integer_avx2.h"

// After it: the level's instructions.
#include "kernels/lobcq_level.h"
#include "kernels/with_counts.h"

namespace neap {
namespace {

// Selectors of four columns of each lane, in the columns' bytes. They begin at bytes 0 and 2: no
// block is shorter.
inline __m256i selectors(const LobcqShape& shape, const std::uint8_t* headers, std::size_t group) {
  const __m256i header = load_256(headers + shape.word[group] * kVectorBytes);
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(shape.codebooks - 1));
  const auto from = [&](std::size_t byte) {
    const __m128i bit = _mm_cvtsi32_si128((shape.shift[group][byte] + 4) % 64);
    return _mm256_and_si256(_mm256_srl_epi32(header, bit), mask);
  };
  const __m256i both = _mm256_or_si256(from(0), _mm256_slli_epi32(from(2), 16));
  const __m256i spread = _mm256_setr_epi8(0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14, 0,
                                          0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14);
  return _mm256_shuffle_epi8(both, spread);
}

inline __m256i look_up(const LobcqShape& shape, __m256i code, __m256i selector) {
  __m256i entries = _mm256_setzero_si256();
  for (std::size_t n = 0; n < shape.codebooks; ++n) {
    const auto* book = reinterpret_cast<const __m128i*>(shape.table + 16 * n);
    const __m256i entry =
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(book)), code);
    const __m256i chosen = _mm256_cmpeq_epi8(selector, _mm256_set1_epi8(static_cast<char>(n)));
    entries = _mm256_or_si256(entries, _mm256_and_si256(chosen, entry));
  }
  return entries;
}

// Entries + 32 of four columns of half a panel. headers, codes: the half's, in the array.
inline __m256i decode_group(const LobcqShape& shape, const std::uint8_t* headers,
                            const std::uint8_t* codes, std::size_t group) {
  __m256i code = load_256(codes + group / 2 * kVectorBytes);
  if (group % 2 != 0) code = _mm256_srli_epi16(code, 4);
  code = _mm256_and_si256(code, _mm256_set1_epi8(15));
  return look_up(shape, code, selectors(shape, headers, group));
}

inline __m256 array_scales(const LobcqShape& shape, const std::uint8_t* headers) {
  return e4m3_of_top(load_256(headers + (shape.words - 1) * kVectorBytes));
}

void decode(const LobcqShape& shape, const std::uint8_t* panel, BlockRange range,
            std::uint8_t* values, float* scales) {
  panel += range.first * shape.array_bytes;
  for (std::size_t a = 0; a < range.count; ++a, panel += shape.array_bytes) {
    for (std::size_t half = 0; half < 2; ++half) {
      const std::uint8_t* headers = panel + half * kHalfBytes;
      const std::uint8_t* codes = headers + shape.words * kVectorBytes;
      _mm256_storeu_ps(scales + a * kPairRows + half * kHalfRows, array_scales(shape, headers));
      std::uint8_t* to = values + a * shape.block_array * (kVectorBytes / 2) + half * kHalfBytes;
      for (std::size_t group = 0; group < shape.block_array / 4; ++group) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + group * 2 * kVectorBytes),
                            decode_group(shape, headers, codes, group));
      }
    }
  }
}

template <std::size_t tokens>
void few_of(const LobcqShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
            const KernelOutput& out) {
  for (std::size_t half = 0; half < 2; ++half) {
    __m256 sums[tokens];
    for (__m256& sum : sums) sum = _mm256_setzero_ps();
    for (std::size_t a = 0; a < shape.arrays; ++a) {
      const std::uint8_t* headers = panel + a * shape.array_bytes + half * kHalfBytes;
      const std::uint8_t* codes = headers + shape.words * kVectorBytes;
      const auto weights = [&](std::size_t group) {
        return decode_group(shape, headers, codes, group);
      };
      __m256i dots[tokens];
      for (std::size_t t = 0; t < tokens; ++t)
        dots[t] = _mm256_set1_epi32(x.starts[t * shape.arrays + a]);
      add_dots<tokens>(x.entries + a * shape.block_array, x.stride, shape.block_array, weights,
                       dots);
      const __m256 scale = array_scales(shape, headers);
      for (std::size_t t = 0; t < tokens; ++t) {
        const __m256 x_scale = _mm256_set1_ps(x.scales[t * shape.arrays + a]);
        sums[t] =
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), _mm256_mul_ps(x_scale, scale), sums[t]);
      }
    }
    for (std::size_t t = 0; t < tokens; ++t) store_rows(sums[t], factor_of(x, t), t, half * kHalfRows, out);
  }
}

void few(const LobcqShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
         std::size_t tokens, const KernelOutput& out) {
  with_tokens(tokens, [&]<std::size_t count>() { few_of<count>(shape, panel, x, out); });
}

}  // namespace

extern const LobcqKernels kLobcqKernelsAvx2;
const LobcqKernels kLobcqKernelsAvx2 = {Isa::avx2, decode, few};

}  // namespace neap
