// Isa::avx512 of kernels/lobcq_level.h.
#include "kernels/integer_avx512.h"

// After it: the level's instructions.
#include "kernels/lobcq_level.h"
#include "kernels/with_counts.h"

namespace neap {
namespace {

enum class Kind { usual, general, wide };  // wide: 16 codebooks

// Eight columns of a panel at a time to entries + 32.
template <Kind kind>
class Decoder {
 public:
  explicit Decoder(const LobcqShape& shape) : shape_(shape) {
    for (int i = 0; i < kTables; ++i) table_[i] = _mm512_load_si512(shape.table + 64 * i);
    for (std::size_t i = 0; kind == Kind::usual && i < 8; ++i) shift_[i] = shift_of(2 * i);
  }

  // headers, codes: those of the array. Columns 8 step to 8 step + 3, and those after them.
  inline __attribute__((always_inline)) void operator()(const std::uint8_t* headers, __m512i header,
                                                        const std::uint8_t* codes, std::size_t step,
                                                        __m512i* low, __m512i* high) const {
    const __m512i code = _mm512_loadu_si512(codes + step * kVectorBytes);
    const __m512i above = _mm512_srli_epi16(code, 4);
    if constexpr (kind == Kind::usual) {
      const __m512i selector = _mm512_multishift_epi64_epi8(shift_[step], header);
      *low = look_up(code, selector);
      *high = look_up(above, selector);
    } else {
      *low = look_up(code, selectors(headers, 2 * step));
      *high = look_up(above, selectors(headers, 2 * step + 1));
    }
  }

 private:
  static constexpr int kTables = kind == Kind::wide ? 4 : 2;

  __m512i shift_of(std::size_t group) const {
    long long value;
    std::memcpy(&value, shape_.shift[group], sizeof value);
    return _mm512_set1_epi64(value);
  }

  __m512i selectors(const std::uint8_t* headers, std::size_t group) const {
    const __m512i header = _mm512_loadu_si512(headers + shape_.word[group] * kVectorBytes);
    return _mm512_multishift_epi64_epi8(shift_of(group), header);
  }

  // Of code its lower four bits count, of 16 selector the rest. vpermi2b looks at seven.
  inline __attribute__((always_inline)) __m512i look_up(__m512i code, __m512i selector) const {
    constexpr int kSelect = 0xca;  // bits of the second operand where the first has ones
    const __m512i index = _mm512_ternarylogic_epi32(_mm512_set1_epi8(15), code, selector, kSelect);
    const __m512i entry = _mm512_permutex2var_epi8(table_[0], index, table_[1]);
    if constexpr (kind != Kind::wide) return entry;
    return _mm512_mask_mov_epi8(
        entry, _mm512_movepi8_mask(index),
        _mm512_permutex2var_epi8(table_[kTables - 2], index, table_[kTables - 1]));
  }

  const LobcqShape& shape_;
  __m512i table_[kTables];
  __m512i shift_[8];
};

template <Kind kind>
void decode_as(const LobcqShape& shape, const std::uint8_t* panel, BlockRange range,
               std::uint8_t* values, float* scales) {
  const Decoder<kind> decoder(shape);
  const std::size_t steps = kind == Kind::usual ? 8 : shape.block_array / 8;
  panel += range.first * shape.array_bytes;
  for (std::size_t a = 0; a < range.count; ++a, panel += shape.array_bytes) {
    const std::uint8_t* codes = panel + shape.words * kVectorBytes;
    const __m512i header = _mm512_loadu_si512(codes - kVectorBytes);
    _mm512_storeu_ps(scales + a * kPairRows, e4m3_of_top(header));
#pragma GCC unroll 8
    for (std::size_t step = 0; step < steps; ++step, values += 4 * kVectorBytes) {
      __m512i low, high;
      decoder(panel, header, codes, step, &low, &high);
      _mm512_storeu_si512(values, low);
      _mm512_storeu_si512(values + 2 * kVectorBytes, high);
    }
  }
}

template <Kind kind, std::size_t tokens>
void few_of(const LobcqShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
            const KernelOutput& out) {
  const Decoder<kind> decoder(shape);
  const std::size_t steps = kind == Kind::usual ? 8 : shape.block_array / 8;
  __m512 sums[tokens];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (std::size_t a = 0; a < shape.arrays; ++a, panel += shape.array_bytes) {
    const std::uint8_t* codes = panel + shape.words * kVectorBytes;
    const __m512i header = _mm512_loadu_si512(codes - kVectorBytes);
    const std::int8_t* inputs = x.entries + a * shape.block_array;
    for (std::size_t t = 0; t < tokens; ++t) fetch_ahead(inputs + t * x.stride);
    __m512i even[tokens], odd[tokens];
    for (std::size_t t = 0; t < tokens; ++t) {
      even[t] = _mm512_set1_epi32(x.starts[t * shape.arrays + a]);
      odd[t] = _mm512_setzero_si512();
    }
#pragma GCC unroll 8
    for (std::size_t step = 0; step < steps; ++step) {
      __m512i low, high;
      decoder(panel, header, codes, step, &low, &high);
      for (std::size_t t = 0; t < tokens; ++t) {
        even[t] = _mm512_dpbusd_epi32(even[t], low, four(inputs + t * x.stride + 8 * step));
        odd[t] = _mm512_dpbusd_epi32(odd[t], high, four(inputs + t * x.stride + 8 * step + 4));
      }
    }
    const __m512 scale = e4m3_of_top(header);
    for (std::size_t t = 0; t < tokens; ++t) {
      const __m512 dot = _mm512_cvtepi32_ps(_mm512_add_epi32(even[t], odd[t]));
      const __m512 both = _mm512_mul_ps(_mm512_set1_ps(x.scales[t * shape.arrays + a]), scale);
      sums[t] = _mm512_fmadd_ps(dot, both, sums[t]);
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) store_rows(sums[t], factor_of(x, t), t, 0, out);
}

template <Kind kind>
void few_as(const LobcqShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
            std::size_t tokens, const KernelOutput& out) {
  with_tokens(tokens, [&]<std::size_t count>() { few_of<kind, count>(shape, panel, x, out); });
}

Kind kind_of(const LobcqShape& shape) {
  return shape.usual ? Kind::usual : shape.codebooks == 16 ? Kind::wide : Kind::general;
}

void decode(const LobcqShape& shape, const std::uint8_t* panel, BlockRange range,
            std::uint8_t* values, float* scales) {
  switch (kind_of(shape)) {
    case Kind::usual:
      return decode_as<Kind::usual>(shape, panel, range, values, scales);
    case Kind::general:
      return decode_as<Kind::general>(shape, panel, range, values, scales);
    case Kind::wide:
      return decode_as<Kind::wide>(shape, panel, range, values, scales);
  }
}

void few(const LobcqShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
         std::size_t tokens, const KernelOutput& out) {
  switch (kind_of(shape)) {
    case Kind::usual:
      return few_as<Kind::usual>(shape, panel, x, tokens, out);
    case Kind::general:
      return few_as<Kind::general>(shape, panel, x, tokens, out);
    case Kind::wide:
      return few_as<Kind::wide>(shape, panel, x, tokens, out);
  }
}

}  // namespace

extern const LobcqKernels kLobcqKernelsAvx512;
const LobcqKernels kLobcqKernelsAvx512 = {Isa::avx512, decode, few};

}  // namespace neap
