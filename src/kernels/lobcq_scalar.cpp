// The specification: decodes as kernels/lobcq_packed.h describes. And the choice of a level.
#include <cmath>
#include <cstring>

#include "codec/minifloat.h"
#include "kernels/lobcq_level.h"

namespace neap {
namespace {

std::uint32_t header_word(const std::uint8_t* array, std::size_t word, std::size_t lane) {
  std::uint32_t value = 0;
  std::memcpy(&value, array + word * kVectorBytes + 4 * lane, sizeof value);
  return value;
}

float scale_of(const LobcqShape& shape, const std::uint8_t* array, std::size_t lane) {
  return e4m3_to_float(static_cast<E4m3>(header_word(array, shape.words - 1, lane) >> 24));
}

// Entry + 32 of column c of an array.
std::uint8_t entry_of(const LobcqShape& shape, const std::uint8_t* array, std::size_t lane,
                      std::size_t c) {
  const std::uint8_t* codes = array + (shape.words + c / 8) * kVectorBytes;
  const unsigned code = codes[4 * lane + c % 4] >> (c % 8 / 4 * 4) & 15u;
  const std::uint64_t word = header_word(array, shape.word[c / 4], lane);
  // `shift` is where 16 selector lies, seen from an even lane: 4 bits below the selector.
  const unsigned bit = (shape.shift[c / 4][c % 4] + 4u) % 64;
  const unsigned selector = static_cast<unsigned>(word >> bit) & 15u;
  return shape.table[16 * selector + code];
}

void decode(const LobcqShape& shape, const std::uint8_t* panel, BlockRange range,
            std::uint8_t* values, float* scales) {
  panel += range.first * shape.array_bytes;
  for (std::size_t a = 0; a < range.count; ++a, panel += shape.array_bytes) {
    for (std::size_t lane = 0; lane < kPanelRows; ++lane) {
      scales[a * kPairRows + lane] = scale_of(shape, panel, lane);
      for (std::size_t c = 0; c < shape.block_array; ++c) {
        const std::size_t vector = (a * shape.block_array + c) / 4;
        values[vector * 2 * kVectorBytes + 4 * lane + c % 4] = entry_of(shape, panel, lane, c);
      }
    }
  }
}

void few(const LobcqShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
         std::size_t tokens, const KernelOutput& out) {
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t row = 0; row < out.rows; ++row) {
      float sum = 0;
      for (std::size_t a = 0; a < shape.arrays; ++a) {
        const std::uint8_t* array = panel + a * shape.array_bytes;
        const std::int8_t* inputs = x.entries + t * x.stride + a * shape.block_array;
        std::int32_t dot = x.starts[t * shape.arrays + a];
        for (std::size_t c = 0; c < shape.block_array; ++c)
          dot += inputs[c] * entry_of(shape, array, row, c);
        const float scales = x.scales[t * shape.arrays + a] * scale_of(shape, array, row);
        sum = std::fma(static_cast<float>(dot), scales, sum);
      }
      if (x.factors) sum *= x.factors[t];
      out.y[t * out.stride + row] = out.bias ? sum + out.bias[row] : sum;
    }
  }
}

constexpr LobcqKernels kScalar = {Isa::scalar, decode, few};

}  // namespace

#ifdef NEAP_KERNELS_X86
extern const LobcqKernels kLobcqKernelsAvx2, kLobcqKernelsAvx512;  // lobcq_avx2.cpp, _avx512.cpp
#endif

const LobcqKernels& lobcq_kernels([[maybe_unused]] Isa isa) {
#ifdef NEAP_KERNELS_X86
  if (isa >= Isa::avx512) return kLobcqKernelsAvx512;
  if (isa >= Isa::avx2) return kLobcqKernelsAvx2;
#endif
  return kScalar;
}

}  // namespace neap
