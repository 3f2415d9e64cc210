// The AVX-512 level of codec/lobcq_array.h (F, BW, VL, DQ, VBMI): 64 values at a time. A codebook's table is two
// registers, and vpermi2b looks up 64 entries in it at once.
#include <immintrin.h>

#include "codec/lobcq_array.h"

namespace neap {
namespace {

constexpr int kChunk = 64;

// Up to 64 values as n: 16-bit numbers, places in a table, and which of them there are.
struct Chunk {
  __m512i low, high;  // n of values 0 .. 31 and 32 .. 63, 0 where there is none
  __mmask64 there;
};

__mmask64 first_bits(int count) { return count >= kChunk ? ~__mmask64{0} : (__mmask64{1} << count) - 1; }

__m512i fixed_points_16(const float* x, __mmask16 there, __m512 ratio) {
  const __m512 limit = _mm512_set1_ps(4095.0f);
  const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(there, x), ratio);
  const __m512 clamped = _mm512_max_ps(_mm512_min_ps(scaled, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
  return _mm512_cvtps_epi32(clamped);  // to nearest even
}

__m512i fixed_points_32(const float* x, __mmask32 there, __m512 ratio) {
  const __m512i a = fixed_points_16(x, static_cast<__mmask16>(there), ratio);
  const __m512i b = fixed_points_16(x + 16, static_cast<__mmask16>(there >> 16), ratio);
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)), _mm512_cvtepi32_epi16(b), 1);
}

Chunk load(const float* x, int count, float ratio) {
  const __mmask64 there = first_bits(count);
  const __m512 ratios = _mm512_set1_ps(ratio);
  return {fixed_points_32(x, static_cast<__mmask32>(there), ratios),
          fixed_points_32(x + 32, static_cast<__mmask32>(there >> 32), ratios), there};
}

// m modulo 128 of 64 values; vpermi2b ignores the highest bit.
__m512i places(const Chunk& chunk) {
  const auto place = [](__m512i n) {
    const __m512i m = _mm512_srai_epi16(_mm512_sub_epi16(n, _mm512_set1_epi16(1)), 5);
    const __m512i inside = _mm512_max_epi16(_mm512_min_epi16(m, _mm512_set1_epi16(63)), _mm512_set1_epi16(-64));
    return _mm512_cvtepi16_epi8(inside);
  };
  return _mm512_inserti64x4(_mm512_castsi256_si512(place(chunk.low)), place(chunk.high), 1);
}

__m512i look_up(const void* table, __m512i place) {
  const auto* bytes = static_cast<const char*>(table);
  return _mm512_permutex2var_epi8(_mm512_loadu_si512(bytes), place, _mm512_loadu_si512(bytes + 64));
}

// Sums of squares of n - 64 entry over each block, in every 32-bit lane of the block.
template <int block>
__m512i block_errors(__m512i n, __mmask32 there, __m256i entry) {
  const __m512i nearest = _mm512_slli_epi16(_mm512_cvtepi8_epi16(entry), 6);
  const __m512i e = _mm512_maskz_sub_epi16(there, n, nearest);
  __m512i sum = _mm512_madd_epi16(e, e);
  if constexpr (block >= 4) sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_CDAB));
  if constexpr (block >= 8) sum = _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_BADC));
  return sum;
}

struct BlockErrors {
  __m512i low, high;
};

template <int block>
BlockErrors errors_with(const LobcqTables::Table& table, const Chunk& chunk, __m512i place) {
  const __m512i entry = look_up(table.entry.data(), place);
  return {block_errors<block>(chunk.low, static_cast<__mmask32>(chunk.there), _mm512_castsi512_si256(entry)),
          block_errors<block>(chunk.high, static_cast<__mmask32>(chunk.there >> 32), _mm512_extracti64x4_epi64(entry, 1))};
}

// Lanes that stand for a block each, of 16.
template <int block>
constexpr __mmask16 kBlockLanes = block == 8 ? 0x1111 : block == 4 ? 0x5555 : 0xffff;

template <int block>
std::int64_t least_error(const LobcqTables& tables, const Chunk& chunk) {
  const __m512i place = places(chunk);
  __m512i low = _mm512_set1_epi32(INT32_MAX), high = low;
  for (const LobcqTables::Table& table : tables.tables) {
    const BlockErrors e = errors_with<block>(table, chunk, place);
    low = _mm512_min_epi32(low, e.low);
    high = _mm512_min_epi32(high, e.high);
  }
  // A block's error is below 2^29, two of them below 2^32 as unsigned numbers.
  const __m512i sum = _mm512_maskz_add_epi32(kBlockLanes<block>, low, high);
  const __m512i wide = _mm512_add_epi64(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(sum)),
                                        _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(sum, 1)));
  return _mm512_reduce_add_epi64(wide);
}

Chunk negated(const Chunk& chunk) {
  const __m512i zero = _mm512_setzero_si512();
  return {_mm512_sub_epi16(zero, chunk.low), _mm512_sub_epi16(zero, chunk.high), chunk.there};
}

template <int block>
ArrayErrors errors_of(const LobcqTables& tables, const float* x, int count, float ratio) {
  ArrayErrors sum{0, 0};
  for (int first = 0; first < count; first += kChunk) {
    const Chunk chunk = load(x + first, count - first, ratio);
    sum.plain += least_error<block>(tables, chunk);
    sum.mirrored += least_error<block>(tables, negated(chunk));
  }
  return sum;
}

// The best codebook of each block, in every 32-bit lane of the block.
struct Selectors {
  __m512i low, high;
};

template <int block>
Selectors select(const LobcqTables& tables, const Chunk& chunk, __m512i place) {
  __m512i low = _mm512_set1_epi32(INT32_MAX), high = low;
  Selectors best{_mm512_setzero_si512(), _mm512_setzero_si512()};
  for (std::size_t c = 0; c < tables.tables.size(); ++c) {
    const BlockErrors e = errors_with<block>(tables.tables[c], chunk, place);
    const __m512i selector = _mm512_set1_epi32(static_cast<int>(c));
    best.low = _mm512_mask_mov_epi32(best.low, _mm512_cmplt_epi32_mask(e.low, low), selector);
    best.high = _mm512_mask_mov_epi32(best.high, _mm512_cmplt_epi32_mask(e.high, high), selector);
    low = _mm512_min_epi32(low, e.low);
    high = _mm512_min_epi32(high, e.high);
  }
  return best;
}

// Of 64 values, those whose block has chosen this codebook.
__mmask64 with_selector(const Selectors& selectors, std::size_t c) {
  const __m512i both = _mm512_set1_epi32(static_cast<int>(c | c << 16));
  const auto half = [&](__m512i s) {
    return _mm512_cmpeq_epi16_mask(_mm512_or_si512(s, _mm512_slli_epi32(s, 16)), both);
  };
  return static_cast<__mmask64>(half(selectors.high)) << 32 | half(selectors.low);
}

template <int block>
void store_selectors(const Selectors& selectors, int blocks, std::uint8_t* to) {
  constexpr int kPerHalf = 32 / block;
  const __m128i low = _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(kBlockLanes<block>, selectors.low));
  const __m128i high = _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(kBlockLanes<block>, selectors.high));
  const __mmask64 there = first_bits(blocks);
  _mm_mask_storeu_epi8(to, static_cast<__mmask16>(there & ((1u << kPerHalf) - 1)), low);
  if (blocks > kPerHalf) _mm_mask_storeu_epi8(to + kPerHalf, static_cast<__mmask16>(there >> kPerHalf), high);
}

bool any(const Chunk& chunk) {
  const __m512i both = _mm512_or_si512(chunk.low, chunk.high);
  return _mm512_test_epi16_mask(both, both) != 0;
}

// codes: entries if `entry`, else codes. selectors: may be null.
template <int block, bool entry>
bool decide(const LobcqTables& tables, const float* x, int count, float ratio, void* codes, std::uint8_t* selectors) {
  bool nonzero = false;
  for (int first = 0; first < count; first += kChunk) {
    const Chunk chunk = load(x + first, count - first, ratio);
    nonzero |= any(chunk);
    const __m512i place = places(chunk);
    const Selectors best = select<block>(tables, chunk, place);
    __m512i out = _mm512_setzero_si512();
    for (std::size_t c = 0; c < tables.tables.size(); ++c) {
      const LobcqTables::Table& table = tables.tables[c];
      const void* values = entry ? static_cast<const void*>(table.entry.data()) : table.code.data();
      out = _mm512_mask_mov_epi8(out, with_selector(best, c), look_up(values, place));
    }
    _mm512_mask_storeu_epi8(static_cast<char*>(codes) + first, chunk.there, out);
    const int values = count - first < kChunk ? count - first : kChunk;
    if (selectors) store_selectors<block>(best, (values + block - 1) / block, selectors + first / block);
  }
  return nonzero;
}

float largest(const float* x, int count) {
  const __m512i magnitude_bits = _mm512_set1_epi32(0x7fffffff);
  __m512i most = _mm512_setzero_si512();
  for (int first = 0; first < count; first += 16) {
    const __m512i v = _mm512_castps_si512(_mm512_maskz_loadu_ps(static_cast<__mmask16>(first_bits(count - first)), x + first));
    most = _mm512_max_epu32(most, _mm512_and_si512(v, magnitude_bits));
  }
  const __m512i found = _mm512_set1_epi32(static_cast<int>(_mm512_reduce_max_epu32(most)));
  for (int first = 0;; first += 16) {
    const auto there = static_cast<__mmask16>(first_bits(count - first));
    const __m512i v = _mm512_castps_si512(_mm512_maskz_loadu_ps(there, x + first));
    const __mmask16 equal = _mm512_mask_cmpeq_epi32_mask(there, _mm512_and_si512(v, magnitude_bits), found);
    if (equal != 0) return x[first + __builtin_ctz(equal)];
  }
}

ArrayErrors errors(const LobcqTables& tables, const float* x, int count, float ratio) {
  if (tables.block == 8) return errors_of<8>(tables, x, count, ratio);
  if (tables.block == 4) return errors_of<4>(tables, x, count, ratio);
  return errors_of<2>(tables, x, count, ratio);
}

bool encode(const LobcqTables& tables, const float* x, int count, float ratio, std::uint8_t* codes,
            std::uint8_t* selectors) {
  if (tables.block == 8) return decide<8, false>(tables, x, count, ratio, codes, selectors);
  if (tables.block == 4) return decide<4, false>(tables, x, count, ratio, codes, selectors);
  return decide<2, false>(tables, x, count, ratio, codes, selectors);
}

bool entries(const LobcqTables& tables, const float* x, int count, float ratio, std::int8_t* out) {
  if (tables.block == 8) return decide<8, true>(tables, x, count, ratio, out, nullptr);
  if (tables.block == 4) return decide<4, true>(tables, x, count, ratio, out, nullptr);
  return decide<2, true>(tables, x, count, ratio, out, nullptr);
}

}  // namespace

extern const LobcqLevel kLobcqAvx512;
const LobcqLevel kLobcqAvx512 = {"avx512vbmi", largest, errors, encode, entries};

}  // namespace neap
