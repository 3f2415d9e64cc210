// The specification: unpacks as kernels/group_packed.h describes. And the choice of a level.
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernels/group_level.h"

namespace neap {
namespace {

float scale_of(const GroupShape& shape, const std::uint8_t* panel, std::size_t group,
               std::size_t lane) {
  const std::uint8_t* at = panel + scales_at(shape, group) + lane * scale_bytes(shape);
  if (shape.scale_type == ScaleType::f32) {
    float scale;
    std::memcpy(&scale, at, 4);
    return scale;
  }
  std::uint16_t half;
  std::memcpy(&half, at, 2);
  return shape.scale_type == ScaleType::bf16 ? bf16_to_float(half) : fp16_to_float(half);
}

int zero_of(const GroupShape& shape, const std::uint8_t* panel, std::size_t group,
            std::size_t lane) {
  return shape.zeros ? panel[zeros_at(shape, group) + lane] : 0;
}

// Of column c; 0 past the last chunk.
std::uint8_t code_of(const GroupShape& shape, const std::uint8_t* panel, std::size_t lane,
                     std::size_t c) {
  if (c >= shape.chunks * kChunk) return 0;
  const std::uint8_t* chunk = panel + codes_at(shape, c / kChunk) + 4 * lane + c % 4;
  const std::size_t g = c % kChunk / 4;
  const auto bits_at = [&](std::size_t vector, std::size_t shift, unsigned mask) {
    return static_cast<unsigned>(chunk[vector * kVectorBytes] >> shift) & mask;
  };
  if (shape.bits == 8) return static_cast<std::uint8_t>(bits_at(g, 0, 255));
  if (shape.bits == 4) return static_cast<std::uint8_t>(bits_at(g / 2, g % 2 * 4, 15));
  if (shape.bits == 2) return static_cast<std::uint8_t>(bits_at(g / 4, g % 4 * 2, 3));
  if (g < 6) return static_cast<std::uint8_t>(bits_at(g / 2, g % 2 * 3, 7));
  return static_cast<std::uint8_t>(bits_at(g - 6, 6, 3) << 1 | bits_at(2, g, 1));
}

void decode(const GroupShape& shape, const std::uint8_t* panel, BlockRange range,
            std::uint8_t* values, float* scales, float* zeros) {
  const std::size_t first = range.first * shape.block;
  for (std::size_t lane = 0; lane < kPanelRows; ++lane) {
    for (std::size_t b = 0; b < range.count; ++b) {
      const std::size_t group = (range.first + b) / shape.blocks_per_group;
      scales[b * kPairRows + lane] = scale_of(shape, panel, group, lane);
      if (shape.zeros)
        zeros[b * kPairRows + lane] = static_cast<float>(zero_of(shape, panel, group, lane));
    }
    for (std::size_t c = 0; c < range.count * shape.block; ++c)
      values[c / 4 * 2 * kVectorBytes + 4 * lane + c % 4] = code_of(shape, panel, lane, first + c);
  }
}

void few(const GroupShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
         std::size_t tokens, const KernelOutput& out) {
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t r = 0; r < out.rows; ++r) {
      float sum = 0;
      for (std::size_t b = 0; b < shape.blocks; ++b) {
        const std::size_t group = b / shape.blocks_per_group;
        const std::int32_t start = x.starts[t * shape.blocks + b];
        std::int32_t dot = shape.zeros ? zero_of(shape, panel, group, r) * start : start;
        for (std::size_t c = b * shape.block; c < (b + 1) * shape.block; ++c)
          dot += x.entries[t * x.stride + c] * code_of(shape, panel, r, c);
        const float scale = x.scales[t * shape.blocks + b] * scale_of(shape, panel, group, r);
        sum = std::fma(static_cast<float>(dot), scale, sum);
      }
      out.y[t * out.stride + r] = out.bias ? sum + out.bias[r] : sum;
    }
  }
}

constexpr GroupKernels kScalar = {Isa::scalar, decode, few};

}  // namespace

#ifdef NEAP_KERNELS_X86
extern const GroupKernels kGroupKernelsAvx2, kGroupKernelsAvx512;
#endif

const GroupKernels& group_kernels([[maybe_unused]] Isa isa) {
#ifdef NEAP_KERNELS_X86
  if (isa >= Isa::avx512) return kGroupKernelsAvx512;
  if (isa >= Isa::avx2) return kGroupKernelsAvx2;
#endif
  return kScalar;
}

}  // namespace neap
