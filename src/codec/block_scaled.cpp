#include "codec/block_scaled.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "base/multiversion.h"
#include "base/parallel.h"
#include "codec/fp4.h"
#include "codec/lobcq_encode.h"
#include "neap/check.h"

namespace neap {
namespace {

constexpr float kInt4Low = -8, kInt4High = 7, kInt4Half = 7.5f;
constexpr float kInt4ScaleOfZeros = 0x1p-23f;

NEAP_MULTIVERSION
float largest_of(const float* x, std::size_t count) {
  float largest = 0;
#pragma omp simd reduction(max : largest)
  for (std::size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(x[i]));
  return largest;
}

NEAP_MULTIVERSION
void round_fp4(const float* x, std::size_t count, float scale, float* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const float value = round_to_e2m1(std::abs(x[i] / scale));
    out[i] = std::copysign(value, x[i]) * scale + 0.0f;  // no -0
  }
}

// Adding 1.5 * 2^23 rounds small numbers to nearest even at any instruction set.
float nearest_int4(float value) {
  constexpr float kRound = 0x1.8p23f;
  return (std::min(std::max(value, kInt4Low), kInt4High) + kRound) - kRound;
}

NEAP_MULTIVERSION
void round_int4(const float* x, std::size_t count, float scale, float* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = nearest_int4(x[i] / scale) * scale;
}

float int4_scale(float max_abs) { return max_abs > 0 ? std::max(max_abs / kInt4Half, 0x1p-149f) : kInt4ScaleOfZeros; }

float stored(float scale, DType type) {
  float kept = scale;
  if (type == DType::f16) kept = fp16_to_float(float_to_fp16(std::min(scale, 65504.0f)));
  if (type == DType::bf16) kept = bf16_to_float(float_to_bf16(scale));
  return kept > 0 ? kept : kInt4ScaleOfZeros;
}

void round_row(const BlockScaledInputs& inputs, float global_scale, const float* x, std::size_t cols, float* out) {
  const auto group = static_cast<std::size_t>(inputs.group);
  for (std::size_t c = 0; c < cols; c += group) {
    const float largest = largest_of(x + c, group);
    if (inputs.format == BlockScaled::int4) {
      round_int4(x + c, group, int4_scale(largest), out + c);
    } else {
      const Fp4Layout layout{inputs.format};
      const std::uint8_t bits = fp4_scale_of_maximum(layout, largest, global_scale);
      round_fp4(x + c, group, fp4_scale(layout, bits, global_scale), out + c);
    }
  }
}

}  // namespace

std::string name_of(BlockScaled format) {
  switch (format) {
    case BlockScaled::nvfp4: return "NVFP4";
    case BlockScaled::mxfp4: return "MXFP4";
    case BlockScaled::int4: return "INT4";
  }
  return "?";
}

std::int64_t usual_group(BlockScaled format) {
  return format == BlockScaled::int4 ? 64 : Fp4Layout{format}.group();
}

void round_block_scaled(const BlockScaledInputs& inputs, MatrixView<const float> x, MatrixView<float> out) {
  NEAP_CHECK(x.rows == out.rows && x.cols == out.cols);
  NEAP_CHECK(inputs.group > 0 && x.cols % static_cast<std::size_t>(inputs.group) == 0);
  const float largest = largest_magnitude(x);  // throws for what is not finite
  for (std::size_t r = 0; r < x.rows; ++r) {
    float global_scale = inputs.global_scale.value_or(1);
    if (inputs.format == BlockScaled::nvfp4 && !inputs.global_scale)
      global_scale = global_scale_of_maximum(x.rows == 1 ? largest : largest_of(x.row(r), x.cols));
    round_row(inputs, global_scale, x.row(r), x.cols, out.row(r));
  }
}

QuantizedTensor round_to_int4(MatrixView<const float> weight, const GroupLayout& layout) {
  const auto rows = static_cast<std::int64_t>(weight.rows), cols = static_cast<std::int64_t>(weight.cols);
  NEAP_CHECK(layout.bits == 4 && layout.symmetric && layout.group > 0 && cols % layout.group == 0);
  const std::size_t groups = static_cast<std::size_t>(layout.groups(cols)),
                    width = static_cast<std::size_t>(layout.group);
  QuantizedTensor tensor{layout, rows, cols, std::vector<std::uint8_t>(weight.rows * weight.cols),
                         std::vector<float>(weight.rows * groups), {}};
  parallel_for(weight.rows, [&](std::size_t r) {
    for (std::size_t g = 0; g < groups; ++g) {
      const float* from = weight.row(r) + g * width;
      const float scale = stored(int4_scale(largest_of(from, width)), layout.scale_type);
      tensor.scales[r * groups + g] = scale;
      for (std::size_t i = 0; i < width; ++i) {
        tensor.codes[r * weight.cols + g * width + i] =
            static_cast<std::uint8_t>(nearest_int4(from[i] / scale) - kInt4Low);
      }
    }
  });
  return tensor;
}

}  // namespace neap
