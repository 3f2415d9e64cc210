// The specification: decodes as kernels/fp4_packed.h describes. And the choice of a level.
#include <cmath>

#include "codec/minifloat.h"
#include "kernels/fp4_level.h"

namespace neap {
namespace {

float half_scale_of(const Fp4Shape& shape, const std::uint8_t* panel, std::size_t lane, std::size_t group) {
  const std::uint8_t bits = panel[group / kStripeGroups * shape.stripe_bytes + 4 * lane + group % kStripeGroups];
  return 0.5f * (shape.power ? e8m0_to_float(bits) : e4m3_to_float(bits) / shape.global_scale);
}

// Of column c of a group.
std::uint8_t value_of(const Fp4Shape& shape, const std::uint8_t* panel, std::size_t lane,
                      std::size_t group, std::size_t c) {
  const std::uint8_t both = panel[codes_at(shape, group) + c / 8 * kVectorBytes + 4 * lane + c % 4];
  return kFp4Values[both >> (c % 8 / 4 * 4) & 15];
}

void decode(const Fp4Shape& shape, const std::uint8_t* panel, BlockRange range,
            std::uint8_t* values, float* scales) {
  for (std::size_t g = 0; g < range.count; ++g) {
    for (std::size_t lane = 0; lane < kPanelRows; ++lane) {
      scales[g * kPairRows + lane] = half_scale_of(shape, panel, lane, range.first + g);
      for (std::size_t c = 0; c < shape.group; ++c) {
        const std::size_t vector = (g * shape.group + c) / 4;
        values[vector * 2 * kVectorBytes + 4 * lane + c % 4] =
            value_of(shape, panel, lane, range.first + g, c);
      }
    }
  }
}

void few(const Fp4Shape& shape, const std::uint8_t* panel, const IntegerTokens& x,
         std::size_t tokens, const KernelOutput& out) {
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t row = 0; row < out.rows; ++row) {
      float sum = 0;
      for (std::size_t g = 0; g < shape.groups; ++g) {
        const std::int8_t* inputs = x.entries + t * x.stride + g * shape.group;
        std::int32_t dot = x.starts[t * shape.groups + g];
        for (std::size_t c = 0; c < shape.group; ++c)
          dot += inputs[c] * value_of(shape, panel, row, g, c);
        const float scale = x.scales[t * shape.groups + g] * half_scale_of(shape, panel, row, g);
        sum = std::fma(static_cast<float>(dot), scale, sum);
      }
      if (x.factors) sum *= x.factors[t];
      out.y[t * out.stride + row] = out.bias ? sum + out.bias[row] : sum;
    }
  }
}

constexpr Fp4Kernels kScalar = {Isa::scalar, decode, few};

}  // namespace

#ifdef NEAP_KERNELS_X86
extern const Fp4Kernels kFp4KernelsAvx2, kFp4KernelsAvx512;  // fp4_avx2.cpp, fp4_avx512.cpp
#endif

const Fp4Kernels& fp4_kernels([[maybe_unused]] Isa isa) {
#ifdef NEAP_KERNELS_X86
  if (isa >= Isa::avx512) return kFp4KernelsAvx512;
  if (isa >= Isa::avx2) return kFp4KernelsAvx2;
#endif
  return kScalar;
}

}  // namespace neap
