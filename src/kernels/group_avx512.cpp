// Isa::avx512 of kernels/group_level.h.
#include "kernels/integer_avx512.h"

// After it: the level's instructions.
#include "kernels/group_level.h"
#include "kernels/with_counts.h"

namespace neap {
namespace {

constexpr std::size_t kVectors = kChunk / 4;  // of four columns

// Codes stay at the bits where they are packed, of their byte. Those at the same bit share a sum of
// products, which is shifted once a block.
constexpr std::size_t sums_of(int bits) { return bits == 2 ? 4 : bits == 3 ? 3 : 2; }
constexpr std::size_t sum_of(int bits, std::size_t g) {
  if (bits == 2) return g % 4;
  return bits == 3 && g >= 6 ? 2 : g % 2;
}
constexpr int bit_of(int bits, std::size_t sum) {
  constexpr int kThree[] = {0, 3, 5};
  return bits == 8 ? 0 : bits == 3 ? kThree[sum] : bits * static_cast<int>(sum);
}

constexpr std::size_t lesser(std::size_t a, std::size_t b) { return a < b ? a : b; }

// A chunk's codes by vectors of four columns, each a byte's code << bit_of(sum_of).
template <int bits>
inline __attribute__((always_inline)) void unpack(const std::uint8_t* chunk, __m512i* codes) {
  const auto vector = [&](std::size_t i) { return _mm512_loadu_si512(chunk + i * kVectorBytes); };
  const auto below = [](__m512i v, int mask) {
    return _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>(mask)));
  };
  if constexpr (bits == 8) {
    // Bytes are used up faster than the processor looks ahead by itself. (Of fewer bits it looks ahead
    // well enough, and better than any further prefetch.)
    constexpr std::size_t kAhead = 256;
#pragma GCC unroll 8
    for (std::size_t g = 0; g < kVectors; ++g) {
      _mm_prefetch(chunk + g * kVectorBytes + kAhead, _MM_HINT_T0);
      codes[g] = vector(g);
    }
  } else {
    constexpr std::size_t kWhole = bits == 3 ? 6 : kVectors, kEach = bits == 2 ? 4 : 2;
#pragma GCC unroll 8
    for (std::size_t g = 0; g < kWhole; ++g)
      codes[g] = below(vector(g / kEach), ((1 << bits) - 1) << bit_of(bits, sum_of(bits, g)));
  }
  if constexpr (bits == 3) {
#pragma GCC unroll 2
    for (unsigned g = 6; g < kVectors; ++g) {
      constexpr int kSelect = 0xca;  // bits of the second operand where the first has ones
      const __m512i last = _mm512_srli_epi16(vector(2), g - 5);
      codes[g] = below(_mm512_ternarylogic_epi32(_mm512_set1_epi8(static_cast<char>(0xc0)),
                                                 vector(g - 6), last, kSelect),
                       0xe0);
    }
  }
}

inline __m512 scales_of(const GroupShape& shape, const std::uint8_t* at) {
  if (shape.scale_type == ScaleType::f32) return _mm512_loadu_ps(at);
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  if (shape.scale_type == ScaleType::f16) return _mm512_cvtph_ps(halves);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

inline __m512 zeros_of(const std::uint8_t* at) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

// dot less zero times the sum of activations, or less the offset times it. Exact: integers below 2^23.
inline __m512 finished(bool zeros, __m512i dot, __m512 zero, std::int32_t start) {
  if (!zeros) return _mm512_cvtepi32_ps(_mm512_add_epi32(dot, _mm512_set1_epi32(start)));
  return _mm512_fmadd_ps(zero, _mm512_set1_ps(static_cast<float>(start)), _mm512_cvtepi32_ps(dot));
}

template <int bits>
void decode_of(const GroupShape& shape, const std::uint8_t* panel, BlockRange range,
               std::uint8_t* values, float* scales, float* zeros) {
  for (std::size_t b = 0; b < range.count; ++b) {
    const std::size_t group = (range.first + b) / shape.blocks_per_group;
    _mm512_storeu_ps(scales + b * kPairRows, scales_of(shape, panel + scales_at(shape, group)));
    if (shape.zeros)
      _mm512_storeu_ps(zeros + b * kPairRows, zeros_of(panel + zeros_at(shape, group)));
  }
  const std::size_t first = range.first * shape.block / kChunk;
  for (std::size_t i = 0; i < range.count * shape.block / kChunk; ++i) {
    __m512i codes[kVectors];
    if (first + i < shape.chunks) {
      unpack<bits>(panel + codes_at(shape, first + i), codes);
    } else {
      for (__m512i& code : codes) code = _mm512_setzero_si512();
    }
#pragma GCC unroll 8
    for (std::size_t g = 0; g < kVectors; ++g) {
      constexpr auto bit = [](std::size_t v) { return bit_of(bits, sum_of(bits, v)); };
      _mm512_storeu_si512(values + (i * kVectors + g) * 2 * kVectorBytes,
                          _mm512_srli_epi16(codes[g], static_cast<unsigned>(bit(g))));
    }
  }
}

// Products of one block's codes, at most `chunks` chunks of them; in a sum for each token and row.
template <int bits, std::size_t tokens>
inline __attribute__((always_inline)) void block_dots(const std::uint8_t* chunk, std::size_t chunks,
                                                      const std::int8_t* inputs, std::size_t stride,
                                                      __m512i* dots) {
  constexpr std::size_t kSums = sums_of(bits);
  __m512i sums[tokens][kSums];
  for (auto& token : sums) {
    for (__m512i& sum : token) sum = _mm512_setzero_si512();
  }
  for (; chunks > 0; --chunks, chunk += bits * kVectorBytes, inputs += kChunk) {
    __m512i codes[kVectors];
    unpack<bits>(chunk, codes);
#pragma GCC unroll 8
    for (std::size_t g = 0; g < kVectors; ++g) {
      for (std::size_t t = 0; t < tokens; ++t) {
        __m512i& sum = sums[t][sum_of(bits, g)];
        sum = _mm512_dpbusd_epi32(sum, codes[g], four(inputs + t * stride + 4 * g));
      }
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    dots[t] = sums[t][0];
#pragma GCC unroll 4
    for (std::size_t i = 1; i < kSums; ++i) {
      const auto bit = static_cast<unsigned>(bit_of(bits, i));
      dots[t] = _mm512_add_epi32(dots[t], _mm512_srai_epi32(sums[t][i], bit));
    }
  }
}

// Goes from group to group of a panel.
class Groups {
 public:
  Groups(const GroupShape& shape, const std::uint8_t* panel) : shape_(shape), at_(panel) {}

  // Scales of the next group, and its zeros if there are any; at() is at its codes then.
  inline __attribute__((always_inline)) __m512 next(__m512* zero) {
    if (left_ == 0) {
      left_ = shape_.groups_per_stripe;
      scales_ = at_;
      zeros_ = at_ + shape_.zeros_at;
      at_ += shape_.codes_at;
    }
    --left_;
    const __m512 scale = scales_of(shape_, scales_);
    scales_ += kPanelRows * scale_bytes(shape_);
    if (shape_.zeros) *zero = zeros_of(zeros_), zeros_ += kPanelRows;
    return scale;
  }
  const std::uint8_t* at() const { return at_; }
  void skip(std::size_t bytes) { at_ += bytes; }

 private:
  const GroupShape& shape_;
  const std::uint8_t *at_, *scales_ = nullptr, *zeros_ = nullptr;
  std::size_t left_ = 0;  // groups of the stripe
};

template <int bits, std::size_t tokens>
void few_of(const GroupShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
            const KernelOutput& out) {
  const std::size_t block = shape.block, blocks = shape.blocks, stride = x.stride;
  const std::int8_t* inputs = x.entries;
  Groups groups(shape, panel);
  __m512 sums[tokens], scale, zero = _mm512_setzero_ps();
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  std::size_t left_of_group = 0, left_of_row = shape.chunks;
  for (std::size_t b = 0; b < blocks; ++b, --left_of_group, inputs += block) {
    if (left_of_group == 0) scale = groups.next(&zero), left_of_group = shape.blocks_per_group;
    const std::size_t chunks = lesser(block / kChunk, left_of_row);
    __m512i dots[tokens];
    block_dots<bits, tokens>(groups.at(), chunks, inputs, stride, dots);
    groups.skip(chunks * bits * kVectorBytes);
    left_of_row -= chunks;
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::size_t at = t * blocks + b;
      const __m512 dot = finished(shape.zeros, dots[t], zero, x.starts[at]);
      sums[t] = _mm512_fmadd_ps(dot, _mm512_mul_ps(_mm512_set1_ps(x.scales[at]), scale), sums[t]);
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) store_rows(sums[t], factor_of(x, t), t, 0, out);
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
    with_tokens(tokens, [&]<std::size_t count>() { few_of<bits, count>(shape, panel, x, out); });
  });
}

}  // namespace

extern const GroupKernels kGroupKernelsAvx512;
const GroupKernels kGroupKernelsAvx512 = {Isa::avx512, decode, few};

}  // namespace neap
