// Isa::avx2 of kernels/lobcq_level.h: half a panel, 8 rows by four columns, in a register. There is
// no look-up in more than 16 bytes, so each codebook is looked up by itself. vpmaddubsw's 16-bit
// sums of two products are below 2 * 63 * 31 < 2^12: eight of them fit.
#include <immintrin.h>

#include <cstring>

#include "kernels/lobcq_level.h"

namespace neap {
namespace {

constexpr std::size_t kHalfRows = 8, kHalfBytes = 32;

inline __m256i four(const std::int8_t* entries) {
  std::int32_t value;
  std::memcpy(&value, entries, sizeof value);
  return _mm256_set1_epi32(value);
}

inline __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

// As in the AVX-512 level.
inline __m256 scales_of(__m256i header) {
  const __m256i sign = _mm256_and_si256(header, _mm256_set1_epi32(INT32_MIN));
  const __m256i magnitude = _mm256_and_si256(header, _mm256_set1_epi32(0x7f000000));
  const __m256i bits = _mm256_or_si256(sign, _mm256_srli_epi32(magnitude, 4));
  return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p120f));
}

// Selectors of four columns of each lane, in the columns' bytes. They begin at bytes 0 and 2: no
// block is shorter.
inline __m256i selectors(const LobcqShape& shape, const std::uint8_t* headers, std::size_t group) {
  const __m256i header = load(headers + shape.word[group] * kVectorBytes);
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
  __m256i code = load(codes + group / 2 * kVectorBytes);
  if (group % 2 != 0) code = _mm256_srli_epi16(code, 4);
  code = _mm256_and_si256(code, _mm256_set1_epi8(15));
  return look_up(shape, code, selectors(shape, headers, group));
}

inline __m256 array_scales(const LobcqShape& shape, const std::uint8_t* headers) {
  return scales_of(load(headers + (shape.words - 1) * kVectorBytes));
}

void decode(const LobcqShape& shape, const std::uint8_t* panel, std::uint8_t* entries,
            float* scales) {
  for (std::size_t a = 0; a < shape.arrays; ++a, panel += shape.array_bytes) {
    for (std::size_t half = 0; half < 2; ++half) {
      const std::uint8_t* headers = panel + half * kHalfBytes;
      const std::uint8_t* codes = headers + shape.words * kVectorBytes;
      _mm256_storeu_ps(scales + a * 2 * kPanelRows + half * kHalfRows,
                       array_scales(shape, headers));
      std::uint8_t* to = entries + a * shape.block_array * (kVectorBytes / 2) + half * kHalfBytes;
      for (std::size_t group = 0; group < shape.block_array / 4; ++group) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + group * 2 * kVectorBytes),
                            decode_group(shape, headers, codes, group));
      }
    }
  }
}

// Results of the 8 rows from `first` of the panel or pair.
inline void store(__m256 sum, const LobcqTokens& x, std::size_t token, std::size_t first,
                  const KernelOutput& out) {
  alignas(32) float results[kHalfRows];
  _mm256_store_ps(results, _mm256_mul_ps(sum, _mm256_set1_ps(x.tensor_scales[token])));
  float* y = out.y + token * out.stride;
  for (std::size_t r = first; r < out.rows && r < first + kHalfRows; ++r)
    y[r] = out.bias ? results[r - first] + out.bias[r] : results[r - first];
}

// Dot products of an array with `tokens` tokens from `first`; weights(group) gives entries + 32.
template <std::size_t tokens, class Weights>
inline void add_array(const LobcqShape& shape, const LobcqTokens& x, std::size_t first,
                      std::size_t a, __m256 scale, const Weights& weights, __m256* sums) {
  constexpr std::size_t kGroups = 4;  // at most 8 sums fit; 4 divides every array
  __m256i dots[tokens];
  for (std::size_t t = 0; t < tokens; ++t)
    dots[t] = _mm256_set1_epi32(x.starts[(first + t) * shape.arrays + a]);
  const std::int8_t* inputs = x.entries + first * x.stride + a * shape.block_array;
  for (std::size_t g = 0; g < shape.block_array / 4; g += kGroups) {
    __m256i short_dots[tokens];
    for (__m256i& dot : short_dots) dot = _mm256_setzero_si256();
    for (std::size_t i = g; i < g + kGroups; ++i) {
      const __m256i w = weights(i);
      for (std::size_t t = 0; t < tokens; ++t) {
        const __m256i pairs = _mm256_maddubs_epi16(w, four(inputs + t * x.stride + 4 * i));
        short_dots[t] = _mm256_add_epi16(short_dots[t], pairs);
      }
    }
    for (std::size_t t = 0; t < tokens; ++t)
      dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(short_dots[t], _mm256_set1_epi16(1)));
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    const __m256 x_scale = _mm256_set1_ps(x.scales[(first + t) * shape.arrays + a]);
    sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), _mm256_mul_ps(x_scale, scale), sums[t]);
  }
}

// One half of a decoded pair's panels against `tokens` tokens.
template <std::size_t tokens>
void tile(const LobcqShape& shape, const std::uint8_t* entries, const float* scales,
          const LobcqTokens& x, std::size_t first, std::size_t row, const KernelOutput& out) {
  __m256 sums[tokens];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (std::size_t a = 0; a < shape.arrays; ++a) {
    const std::uint8_t* array = entries + a * shape.block_array * (kVectorBytes / 2) + 4 * row;
    const auto weights = [&](std::size_t group) { return load(array + group * 2 * kVectorBytes); };
    add_array<tokens>(shape, x, first, a, _mm256_loadu_ps(scales + a * 2 * kPanelRows + row),
                      weights, sums);
  }
  for (std::size_t t = 0; t < tokens; ++t) store(sums[t], x, first + t, row, out);
}

void many(const LobcqShape& shape, const std::uint8_t* entries, const float* scales,
          const LobcqTokens& x, std::size_t tokens, const KernelOutput& out) {
  for (std::size_t row = 0; row < out.rows; row += kHalfRows) {
    std::size_t t = 0;
    for (; t + 4 <= tokens; t += 4) tile<4>(shape, entries, scales, x, t, row, out);
    for (; t < tokens; ++t) tile<1>(shape, entries, scales, x, t, row, out);
  }
}

template <std::size_t tokens>
void few_of(const LobcqShape& shape, const std::uint8_t* panel, const LobcqTokens& x,
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
      add_array<tokens>(shape, x, 0, a, array_scales(shape, headers), weights, sums);
    }
    for (std::size_t t = 0; t < tokens; ++t) store(sums[t], x, t, half * kHalfRows, out);
  }
}

void few(const LobcqShape& shape, const std::uint8_t* panel, const LobcqTokens& x,
         std::size_t tokens, const KernelOutput& out) {
  if (tokens == 1) return few_of<1>(shape, panel, x, out);
  if (tokens == 2) return few_of<2>(shape, panel, x, out);
  if (tokens == 3) return few_of<3>(shape, panel, x, out);
  few_of<4>(shape, panel, x, out);
}

}  // namespace

extern const LobcqKernels kLobcqKernelsAvx2;
const LobcqKernels kLobcqKernelsAvx2 = {Isa::avx2, decode, many, few};

}  // namespace neap
