// The specification of kernels/integer_level.h, and the choice of a level.
#include <cmath>

#include "kernels/integer_level.h"

namespace neap {
namespace {

// Of four columns' vector k in a pair, the byte of row r and column c modulo 4.
std::size_t place_of(std::size_t c, std::size_t r) {
  return c / 4 * 2 * kVectorBytes + 4 * r + c % 4;
}

float result_of(const IntegerPair& pair, const IntegerTokens& x, std::size_t t, std::size_t r) {
  float sum = 0;
  for (std::size_t b = 0; b < pair.blocks; ++b) {
    const std::int32_t start = x.starts[t * pair.blocks + b];
    const float* zero = pair.zeros ? pair.zeros + b * kPairRows + r : nullptr;
    std::int32_t dot = zero ? static_cast<std::int32_t>(*zero) * start : start;
    for (std::size_t c = b * pair.block; c < (b + 1) * pair.block; ++c)
      dot += x.entries[t * x.stride + c] * pair.values[place_of(c, r)];
    const float scale = x.scales[t * pair.blocks + b] * pair.scales[b * kPairRows + r];
    sum = std::fma(static_cast<float>(dot), scale, sum);
  }
  return x.factors ? sum * x.factors[t] : sum;
}

void many(const IntegerPair& pair, const IntegerTokens& x, std::size_t tokens,
          const KernelOutput& out) {
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t r = 0; r < out.rows; ++r) {
      const float result = result_of(pair, x, t, r);
      out.y[t * out.stride + r] = out.bias ? result + out.bias[r] : result;
    }
  }
}

void starts(const std::int8_t* entries, std::size_t blocks, std::size_t block, int offset,
            std::int32_t* to) {
  for (std::size_t b = 0; b < blocks; ++b) {
    std::int32_t sum = 0;
    for (std::size_t c = 0; c < block; ++c) sum += entries[b * block + c];
    to[b] = -offset * sum;
  }
}

constexpr IntegerKernels kScalar = {Isa::scalar, many, starts};

}  // namespace

#ifdef NEAP_KERNELS_X86
extern const IntegerKernels kIntegerKernelsAvx2, kIntegerKernelsAvx512;
#endif

const IntegerKernels& integer_kernels([[maybe_unused]] Isa isa) {
#ifdef NEAP_KERNELS_X86
  if (isa >= Isa::avx512) return kIntegerKernelsAvx512;
  if (isa >= Isa::avx2) return kIntegerKernelsAvx2;
#endif
  return kScalar;
}

}  // namespace neap
