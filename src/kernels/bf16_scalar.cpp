// The specification, and the choice of a level.
#include "kernels/bf16_level.h"

#include <cmath>

#include "base/half.h"

namespace neap {
namespace {

constexpr std::size_t kColumns[] = {0, 2, 1, 3};  // of every four, in the order of Bf16Tokens

void round(const float* x, std::size_t count, std::byte* to) {
  auto* out = reinterpret_cast<float*>(to);
  for (std::size_t first = 0; first < count; first += 4, out += 4) {
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t c = first + kColumns[i];
      const float value = c < count ? x[c] : 0;
      out[i] = std::abs(value) < 0x1p-100f ? 0 : bf16_to_float(float_to_bf16(value));
    }
  }
}

// Value less zero of row r of a pair's 32.
float value_of(const IntegerPair& pair, int offset, std::size_t c, std::size_t r) {
  const std::size_t at = c / 4 * 2 * kVectorBytes + 4 * r + c % 4;
  const float zero = pair.zeros ? pair.zeros[c / pair.block * kPairRows + r] : static_cast<float>(offset);
  return static_cast<float>(pair.values[at]) - zero;
}

void widen(const IntegerPair& pair, int offset, Bf16* to) {
  for (std::size_t b = 0; b < pair.blocks; ++b) {
    for (std::size_t parity = 0; parity < 2; ++parity) {
      for (std::size_t k = b * pair.block; k < (b + 1) * pair.block; k += 4, to += 2 * kPairRows) {
        for (std::size_t r = 0; r < kPairRows; ++r) {
          for (std::size_t half = 0; half < 2; ++half)
            to[2 * r + half] = float_to_bf16(value_of(pair, offset, k + parity + 2 * half, r));
        }
      }
    }
  }
}

// One step of a chain: `later` are the weight and activation of the latter column.
float add_pair(float dot, float later, float later_x, float first, float first_x) {
  return std::fma(first, first_x, std::fma(later, later_x, dot));
}

float add_block(const Bf16Pair& pair, std::size_t b, const float* x, std::size_t r, float sum) {
  const Bf16* values = pair.values + b * pair.block * kPairRows + 2 * r;
  for (std::size_t parity = 0; parity < 2; ++parity) {
    float dot = 0;
    for (std::size_t k = 0; k < pair.block; k += 4, values += 2 * kPairRows) {
      const float* pairs = x + b * pair.block + k + 2 * parity;
      dot = add_pair(dot, bf16_to_float(values[1]), pairs[1], bf16_to_float(values[0]), pairs[0]);
    }
    sum = std::fma(dot, pair.scales[b * kPairRows + r], sum);
  }
  return sum;
}

void many(const Bf16Pair& pair, const Bf16Tokens& x, std::size_t tokens, const KernelOutput& out) {
  for (std::size_t t = 0; t < tokens; ++t) {
    const float* token = reinterpret_cast<const float*>(x.values) + t * x.stride;
    for (std::size_t r = 0; r < out.rows; ++r) {
      float sum = 0;
      for (std::size_t b = 0; b < pair.blocks; ++b) sum = add_block(pair, b, token, r, sum);
      sum *= pair.factor;
      out.y[t * out.stride + r] = out.bias ? sum + out.bias[r] : sum;
    }
  }
}

void few(const IntegerPair& pair, int offset, const Bf16Tokens& x, std::size_t tokens,
         float* sums) {
  for (std::size_t t = 0; t < tokens; ++t) {
    const float* token = reinterpret_cast<const float*>(x.values) + t * x.stride;
    for (std::size_t r = 0; r < kPanelRows; ++r) {
      for (std::size_t b = 0; b < pair.blocks; ++b) {
        for (std::size_t parity = 0; parity < 2; ++parity) {
          float dot = 0;
          for (std::size_t k = b * pair.block + parity; k < (b + 1) * pair.block; k += 4) {
            const float* pairs = token + k + parity;
            dot = add_pair(dot, value_of(pair, offset, k + 2, r), pairs[1],
                           value_of(pair, offset, k, r), pairs[0]);
          }
          float& sum = sums[t * kPanelRows + r];
          sum = std::fma(dot, pair.scales[b * kPairRows + r], sum);
        }
      }
    }
  }
}

constexpr Bf16Kernels kScalar = {Isa::scalar, true, round, widen, many, few};

}  // namespace

#ifdef NEAP_KERNELS_X86
extern const Bf16Kernels kBf16KernelsAvx2, kBf16KernelsAvx512;
#endif

const Bf16Kernels& bf16_kernels([[maybe_unused]] Isa isa) {
#ifdef NEAP_KERNELS_X86
  if (isa >= Isa::avx512bf16) return kBf16KernelsAvx512;
  if (isa >= Isa::avx2) return kBf16KernelsAvx2;
#endif
  return kScalar;
}

}  // namespace neap
