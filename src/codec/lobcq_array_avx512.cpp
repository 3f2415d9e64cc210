// The AVX-512 level of codec/lobcq_array.h (of Isa::avx512 F, BW, VL, DQ, VBMI): 64 values at a
// time. A codebook's table is two registers, and vpermi2b looks up 64 entries in it at once.
//
// A chunk's 64 values lie in two registers of 16-bit numbers. Blocks of 4 and 8 are cut in halves,
// all first halves in one and all second halves in the other, in order: then a multiply-add of
// pairs in each and one sum of the two leave a block in one or two 32-bit lanes. Blocks of 2 need
// no sum, and lie in order.
#include <immintrin.h>

#include "codec/lobcq_array.h"

namespace neap {
namespace {

constexpr int kChunk = 64;

struct Chunk {
  __m512i first, second;          // n, in the order above; 0 where there is no value
  __mmask32 in_first, in_second;  // where there is one
};

__mmask64 first_bits(int count) {
  return count >= kChunk ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

// Place in the chunk of the i-th number of the first (second: of the second) register.
template <int block>
struct Order {
  std::array<std::int16_t, 32> first, second;
  // Of a value's byte after packing both registers lane by lane, by its place in the chunk.
  std::array<std::uint8_t, 64> byte;
};

template <int block>
constexpr Order<block> make_order() {
  constexpr int kHalf = block == 2 ? 32 : block / 2, kBlock = 2 * kHalf;
  Order<block> order{};
  for (int i = 0; i < 32; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const int place = i / kHalf * kBlock + i % kHalf;
    order.first[at] = static_cast<std::int16_t>(place);
    order.second[at] = static_cast<std::int16_t>(place + kHalf);
    const int byte = i / 8 * 16 + i % 8;
    order.byte[static_cast<std::size_t>(place)] = static_cast<std::uint8_t>(byte);
    order.byte[static_cast<std::size_t>(place + kHalf)] = static_cast<std::uint8_t>(byte + 8);
  }
  return order;
}

template <int block>
constexpr Order<block> kOrder = make_order<block>();

__m512i fixed_points_16(const float* x, __mmask16 there, __m512 ratio) {
  const __m512 limit = _mm512_set1_ps(4095.0f);
  const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(there, x), ratio);
  const __m512 clamped =
      _mm512_max_ps(_mm512_min_ps(scaled, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
  return _mm512_cvtps_epi32(clamped);  // to nearest even
}

__m512i fixed_points_32(const float* x, __mmask32 there, __m512 ratio) {
  const __m512i a = fixed_points_16(x, static_cast<__mmask16>(there), ratio);
  const __m512i b = fixed_points_16(x + 16, static_cast<__mmask16>(there >> 16), ratio);
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)),
                            _mm512_cvtepi32_epi16(b), 1);
}

template <int block>
Chunk load(const float* x, int count, float ratio) {
  const __mmask64 there = first_bits(count);
  const __m512 ratios = _mm512_set1_ps(ratio);
  const __m512i low = fixed_points_32(x, static_cast<__mmask32>(there), ratios);
  const __m512i high = fixed_points_32(x + 32, static_cast<__mmask32>(there >> 32), ratios);
  const __m512i first = _mm512_loadu_si512(kOrder<block>.first.data());
  const __m512i second = _mm512_loadu_si512(kOrder<block>.second.data());
  const __m512i counts = _mm512_set1_epi16(static_cast<short>(count < kChunk ? count : kChunk));
  return {_mm512_permutex2var_epi16(low, first, high), _mm512_permutex2var_epi16(low, second, high),
          _mm512_cmplt_epi16_mask(first, counts), _mm512_cmplt_epi16_mask(second, counts)};
}

// m modulo 128 of 64 values, packed; vpermi2b ignores the highest bit.
__m512i places(const Chunk& chunk) {
  const auto place = [](__m512i n) {
    const __m512i m = _mm512_srai_epi16(_mm512_sub_epi16(n, _mm512_set1_epi16(1)), 5);
    return _mm512_max_epi16(_mm512_min_epi16(m, _mm512_set1_epi16(63)), _mm512_set1_epi16(-64));
  };
  return _mm512_packs_epi16(place(chunk.first), place(chunk.second));
}

__m512i look_up(const void* table, __m512i place) {
  const auto* bytes = static_cast<const char*>(table);
  return _mm512_permutex2var_epi8(_mm512_loadu_si512(bytes), place, _mm512_loadu_si512(bytes + 64));
}

// Sums of squares of n - 64 entry over each block, in every 32-bit lane of the block; of blocks of
// 2, those of the second register by themselves.
struct BlockErrors {
  __m512i sum, second;
};

template <int block>
BlockErrors errors_with(const LobcqTables::Table& table, const Chunk& chunk, __m512i place) {
  const __m512i entry = look_up(table.entry.data(), place), zero = _mm512_setzero_si512();
  const auto squares = [](__m512i n, __mmask32 there, __m512i entry_times_256) {
    const __m512i e = _mm512_maskz_sub_epi16(there, n, _mm512_srai_epi16(entry_times_256, 2));
    return _mm512_madd_epi16(e, e);
  };
  const __m512i first = squares(chunk.first, chunk.in_first, _mm512_unpacklo_epi8(zero, entry));
  const __m512i second = squares(chunk.second, chunk.in_second, _mm512_unpackhi_epi8(zero, entry));
  if constexpr (block == 2) return {first, second};
  const __m512i sum = _mm512_add_epi32(first, second);
  if constexpr (block == 4) return {sum, zero};
  return {_mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_CDAB)), zero};
}

// Lanes that stand for a block each.
template <int block>
constexpr __mmask16 kBlockLanes = block == 8 ? 0x5555 : 0xffff;

std::int64_t least_error_of_pairs(const LobcqTables& tables, const Chunk& chunk) {
  const __m512i place = places(chunk);
  __m512i sum = _mm512_set1_epi32(INT32_MAX), second = sum;
  for (const LobcqTables::Table& table : tables.tables) {
    const BlockErrors e = errors_with<2>(table, chunk, place);
    sum = _mm512_min_epi32(sum, e.sum);
    second = _mm512_min_epi32(second, e.second);
  }
  // A block's error is below 2^29, two of them below 2^32 as unsigned numbers.
  const __m512i all = _mm512_add_epi32(sum, second);
  const __m512i wide = _mm512_add_epi64(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(all)),
                                        _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(all, 1)));
  return _mm512_reduce_add_epi64(wide);
}

Chunk negated(const Chunk& chunk) {
  const __m512i zero = _mm512_setzero_si512();
  return {_mm512_sub_epi16(zero, chunk.first), _mm512_sub_epi16(zero, chunk.second), chunk.in_first,
          chunk.in_second};
}

// Blocks of 2.
ArrayErrors pair_errors(const LobcqTables& tables, const float* x, int count, float ratio) {
  ArrayErrors sum{0, 0};
  for (int first = 0; first < count; first += kChunk) {
    const Chunk chunk = load<2>(x + first, count - first, ratio);
    sum.plain += least_error_of_pairs(tables, chunk);
    sum.mirrored += least_error_of_pairs(tables, negated(chunk));
  }
  return sum;
}

// The best codebook of each block, in the lanes of BlockErrors.
struct Selectors {
  __m512i sum, second;
};

template <int block>
Selectors select(const LobcqTables& tables, const Chunk& chunk, __m512i place) {
  __m512i sum = _mm512_set1_epi32(INT32_MAX), second = sum;
  Selectors best{_mm512_setzero_si512(), _mm512_setzero_si512()};
  for (std::size_t c = 0; c < tables.tables.size(); ++c) {
    const BlockErrors e = errors_with<block>(tables.tables[c], chunk, place);
    const __m512i selector = _mm512_set1_epi32(static_cast<int>(c));
    best.sum = _mm512_mask_mov_epi32(best.sum, _mm512_cmplt_epi32_mask(e.sum, sum), selector);
    sum = _mm512_min_epi32(sum, e.sum);
    if constexpr (block == 2) {
      best.second =
          _mm512_mask_mov_epi32(best.second, _mm512_cmplt_epi32_mask(e.second, second), selector);
      second = _mm512_min_epi32(second, e.second);
    }
  }
  if constexpr (block != 2) best.second = best.sum;  // both halves of a block
  return best;
}

// A selector for every value, packed as the places are.
__m512i selector_bytes(const Selectors& selectors) {
  const auto pairs = [](__m512i s) { return _mm512_or_si512(s, _mm512_slli_epi32(s, 16)); };
  return _mm512_packs_epi16(pairs(selectors.sum), pairs(selectors.second));
}

template <int block>
void store_selectors(const Selectors& selectors, int blocks, std::uint8_t* to) {
  const __mmask64 there = first_bits(blocks);
  const __m128i sum =
      _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(kBlockLanes<block>, selectors.sum));
  _mm_mask_storeu_epi8(to, static_cast<__mmask16>(there), sum);
  if (block == 2 && blocks > 16) {
    _mm_mask_storeu_epi8(to + 16, static_cast<__mmask16>(there >> 16),
                         _mm512_cvtepi32_epi8(selectors.second));
  }
}

bool any(const Chunk& chunk) {
  const __m512i both = _mm512_or_si512(chunk.first, chunk.second);
  return _mm512_test_epi16_mask(both, both) != 0;
}

// codes: entries if `entry`, else codes. selectors: may be null.
template <int block, bool entry>
bool decide(const LobcqTables& tables, const float* x, int count, float ratio, void* codes,
            std::uint8_t* selectors) {
  bool nonzero = false;
  for (int first = 0; first < count; first += kChunk) {
    const Chunk chunk = load<block>(x + first, count - first, ratio);
    nonzero |= any(chunk);
    const __m512i place = places(chunk);
    const Selectors best = select<block>(tables, chunk, place);
    const __m512i selector = selector_bytes(best);
    __m512i packed = _mm512_setzero_si512();
    for (std::size_t c = 0; c < tables.tables.size(); ++c) {
      const LobcqTables::Table& table = tables.tables[c];
      const void* values = entry ? static_cast<const void*>(table.entry.data()) : table.code.data();
      const __mmask64 chosen =
          _mm512_cmpeq_epi8_mask(selector, _mm512_set1_epi8(static_cast<char>(c)));
      packed = _mm512_mask_mov_epi8(packed, chosen, look_up(values, place));
    }
    const __m512i out =
        _mm512_permutexvar_epi8(_mm512_loadu_si512(kOrder<block>.byte.data()), packed);
    _mm512_mask_storeu_epi8(static_cast<char*>(codes) + first, first_bits(count - first), out);
    const int values = count - first < kChunk ? count - first : kChunk;
    if (selectors)
      store_selectors<block>(best, (values + block - 1) / block, selectors + first / block);
  }
  return nonzero;
}

// The magnitudes' bits of the i-th 16 of 64 values, 0 where there is none.
__m512i magnitudes(const float* x, __mmask64 there, int i) {
  const __m512 v = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there >> (16 * i)), x + 16 * i);
  return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
}

// Without a branch that depends on where the largest one is.
float largest(const float* x, int count) {
  __m512i most = _mm512_setzero_si512();
  for (int first = 0; first < count; first += kChunk) {
    const __mmask64 there = first_bits(count - first);
    for (int i = 0; i < 4; ++i) most = _mm512_max_epu32(most, magnitudes(x + first, there, i));
  }
  const __m512i found = _mm512_set1_epi32(static_cast<int>(_mm512_reduce_max_epu32(most)));
  for (int first = 0;; first += kChunk) {
    const __mmask64 there = first_bits(count - first);
    const auto equal = [&](int i) {
      return _mm512_cmpeq_epi32_mask(magnitudes(x + first, there, i), found);
    };
    const __mmask64 all =
        _mm512_kunpackd(_mm512_kunpackw(equal(3), equal(2)), _mm512_kunpackw(equal(1), equal(0)));
    if ((all & there) != 0) return x[first + __builtin_ctzll(all & there)];
  }
}

constexpr std::array<std::uint8_t, 64> kEvenBytes = [] {
  std::array<std::uint8_t, 64> even{};
  for (std::size_t i = 0; i < 64; ++i) even[i] = static_cast<std::uint8_t>(2 * i);
  return even;
}();

// 64 values of n in order, in two registers of 16-bit numbers; 0 where there is no value.
struct Points {
  __m512i first, second;
};

Points points_of(const float* x, __mmask64 there, __m512 ratio) {
  const __m512 limit = _mm512_set1_ps(4095.0f);
  __m512i n[4];
  for (int i = 0; i < 4; ++i) {
    const auto part = static_cast<__mmask16>(there >> (16 * i));
    const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(part, x + 16 * i), ratio);
    constexpr int kLesserMagnitude = 2;  // with the sign of the first
    n[i] = _mm512_cvtps_epi32(_mm512_range_ps(scaled, limit, kLesserMagnitude));
  }
  // Packing takes lanes in turn; this puts 64-bit pieces into order again.
  const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  return {_mm512_permutexvar_epi64(order, _mm512_packs_epi32(n[0], n[1])),
          _mm512_permutexvar_epi64(order, _mm512_packs_epi32(n[2], n[3]))};
}

// They as bytes. With n = 128 h + l, 0 <= l < 128, the error of a block is 128 S + sum n^2, where
//
//   S = sum 32 e^2 - n e = sum (128 - l) e + 32 (sum 4 (31 - h) e - sum (128 - e) e)
//
// All left factors are bytes without a sign: three vpdpbusd.
struct Bytes {
  __m512i place, low, high;  // m of LobcqTables; 128 - l; 4 (31 - h)
};

Bytes bytes_of(const Points& n) {
  const __m512i even = _mm512_loadu_si512(kEvenBytes.data());
  const __m512i l = _mm512_permutex2var_epi8(n.first, even, n.second);
  const __m512i n_32 =
      _mm512_permutex2var_epi8(_mm512_srai_epi16(n.first, 5), even, _mm512_srai_epi16(n.second, 5));
  const __mmask64 multiple = _mm512_testn_epi8_mask(l, _mm512_set1_epi8(31));
  const __m512i m = _mm512_mask_sub_epi8(n_32, multiple, n_32, _mm512_set1_epi8(1));
  const __m512i h_4 = _mm512_and_si512(n_32, _mm512_set1_epi8(-4));
  return {_mm512_max_epi8(_mm512_min_epi8(m, _mm512_set1_epi8(63)), _mm512_set1_epi8(-64)),
          _mm512_sub_epi8(_mm512_set1_epi8(-128), _mm512_and_si512(l, _mm512_set1_epi8(127))),
          _mm512_sub_epi8(_mm512_set1_epi8(124), h_4)};
}

// S of every block of 4 or 8, in its one or two 32-bit lanes, and the entries: 0 where there is no
// value.
template <int block>
__m512i score(const LobcqTables::Table& table, const Bytes& n, __mmask64 there, __m512i& entry) {
  const __m512i zero = _mm512_setzero_si512();
  entry = _mm512_maskz_permutex2var_epi8(there, _mm512_loadu_si512(table.entry.data()), n.place,
                                         _mm512_loadu_si512(table.entry.data() + kChunk));
  const __m512i rest = _mm512_sub_epi8(_mm512_set1_epi8(-128), entry);
  const __m512i coarse = _mm512_sub_epi32(_mm512_dpbusd_epi32(zero, n.high, entry),
                                          _mm512_dpbusd_epi32(zero, rest, entry));
  const __m512i sum = _mm512_dpbusd_epi32(_mm512_slli_epi32(coarse, 5), n.low, entry);
  return block == 8 ? _mm512_add_epi32(sum, _mm512_shuffle_epi32(sum, _MM_PERM_CDAB)) : sum;
}

template <int block>
bool decide_entries(const LobcqTables& tables, const float* x, int count, float ratio,
                    std::int8_t* out) {
  __mmask32 nonzero = 0;
  for (int first = 0; first < count; first += kChunk) {
    const __mmask64 there = first_bits(count - first);
    const Points points = points_of(x + first, there, _mm512_set1_ps(ratio));
    const __m512i any = _mm512_or_si512(points.first, points.second);
    nonzero |= _mm512_test_epi16_mask(any, any);
    const Bytes n = bytes_of(points);
    __m512i least = _mm512_set1_epi32(INT32_MAX), best = _mm512_setzero_si512(), entry;
    for (const LobcqTables::Table& table : tables.tables) {
      const __m512i sum = score<block>(table, n, there, entry);
      best = _mm512_mask_mov_epi32(best, _mm512_cmplt_epi32_mask(sum, least), entry);
      least = _mm512_min_epi32(least, sum);
    }
    _mm512_mask_storeu_epi8(out + first, there, best);
  }
  return nonzero != 0;
}

// The least S of every block, in one lane each.
template <int block>
__m512i least_scores(const LobcqTables& tables, const Points& points, __mmask64 there) {
  const Bytes n = bytes_of(points);
  __m512i least = _mm512_set1_epi32(INT32_MAX), entry;
  for (const LobcqTables::Table& table : tables.tables)
    least = _mm512_min_epi32(least, score<block>(table, n, there, entry));
  return _mm512_maskz_mov_epi32(kBlockLanes<block>, least);
}

// |S| of a block is below 2^21 and a lane of squares below 2^27: two chunks' sums fit in a lane.
template <int block>
ArrayErrors byte_errors(const LobcqTables& tables, const float* x, int count, float ratio) {
  const __m512i zero = _mm512_setzero_si512();
  __m512i plain = zero, mirrored = zero, squares = zero;
  for (int first = 0; first < count; first += kChunk) {
    const __mmask64 there = first_bits(count - first);
    const Points n = points_of(x + first, there, _mm512_set1_ps(ratio));
    const Points negated = {_mm512_sub_epi16(zero, n.first), _mm512_sub_epi16(zero, n.second)};
    plain = _mm512_add_epi32(plain, least_scores<block>(tables, n, there));
    mirrored = _mm512_add_epi32(mirrored, least_scores<block>(tables, negated, there));
    squares = _mm512_add_epi32(squares, _mm512_madd_epi16(n.first, n.first));
    squares = _mm512_add_epi32(squares, _mm512_madd_epi16(n.second, n.second));
  }
  const auto total = [](__m512i lanes) { return std::int64_t{_mm512_reduce_add_epi32(lanes)}; };
  const __m512i wide = _mm512_add_epi64(_mm512_cvtepu32_epi64(_mm512_castsi512_si256(squares)),
                                        _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(squares, 1)));
  const std::int64_t sum = _mm512_reduce_add_epi64(wide);
  return {sum + 128 * total(plain), sum + 128 * total(mirrored)};
}

ArrayErrors errors(const LobcqTables& tables, const float* x, int count, float ratio) {
  if (tables.block == 8) return byte_errors<8>(tables, x, count, ratio);
  if (tables.block == 4) return byte_errors<4>(tables, x, count, ratio);
  return pair_errors(tables, x, count, ratio);
}

bool encode(const LobcqTables& tables, const float* x, int count, float ratio, std::uint8_t* codes,
            std::uint8_t* selectors) {
  if (tables.block == 8) return decide<8, false>(tables, x, count, ratio, codes, selectors);
  if (tables.block == 4) return decide<4, false>(tables, x, count, ratio, codes, selectors);
  return decide<2, false>(tables, x, count, ratio, codes, selectors);
}

bool entries(const LobcqTables& tables, const float* x, int count, float ratio, std::int8_t* out) {
  if (tables.block == 8) return decide_entries<8>(tables, x, count, ratio, out);
  if (tables.block == 4) return decide_entries<4>(tables, x, count, ratio, out);
  return decide<2, true>(tables, x, count, ratio, out, nullptr);
}

}  // namespace

extern const LobcqLevel kLobcqAvx512;
const LobcqLevel kLobcqAvx512 = {Isa::avx512, largest, errors, encode, entries};

}  // namespace neap
