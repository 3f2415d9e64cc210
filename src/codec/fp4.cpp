#include "codec/fp4.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/parallel.h"
#include "neap/check.h"

namespace neap {
namespace {

constexpr E4m3 kE4m3Eighth = 0x20;  // 0.125, in place of 0: what is divided by is never 0
constexpr E8m0 kLargestMxScale = 252;

float largest_of(const float* values, std::int64_t count) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

E8m0 mx_scale_of_maximum(float max_abs) {
  constexpr std::uint32_t kQuarter = 1u << 21;  // takes 1.75 to 2
  constexpr int kOrdersBelow = 2;               // 6 = 1.5 * 2^2
  const auto exponent = static_cast<int>((std::bit_cast<std::uint32_t>(max_abs) + kQuarter) >> 23);
  return static_cast<E8m0>(std::clamp(exponent - kOrdersBelow, 0, static_cast<int>(kLargestMxScale)));
}

// Calls work(row) for rows [0, rows), in tiles.
template <class Work>
void for_rows(std::int64_t rows, std::int64_t cols, const Work& work) {
  const std::int64_t tile = std::max<std::int64_t>(1, 65536 / cols);
  parallel_for(static_cast<std::size_t>((rows + tile - 1) / tile), [&](std::size_t t) {
    const std::int64_t first = static_cast<std::int64_t>(t) * tile;
    for (std::int64_t r = first; r < std::min(first + tile, rows); ++r) work(r);
  });
}

}  // namespace

bool usable_scale(const Fp4Layout& layout, std::uint8_t bits) {
  return layout.format == BlockScaled::nvfp4 ? bits <= kE4m3Largest : bits <= kLargestMxScale;
}

bool usable_global_scale(const Fp4Layout& layout, float global_scale) {
  if (layout.format != BlockScaled::nvfp4) return global_scale == 1;
  return std::isfinite(global_scale) && global_scale > 0 && std::isfinite(kE2m1Max * (kE4m3Max / global_scale)) &&
         0x1p-9f / global_scale > 0;
}

void check_invariants(const Fp4Tensor& tensor) {
  NEAP_CHECK(tensor.layout.format != BlockScaled::int4);
  NEAP_CHECK(tensor.rows > 0 && tensor.cols > 0 && tensor.cols % tensor.layout.group() == 0);
  NEAP_CHECK(tensor.codes.size() == static_cast<std::size_t>(tensor.rows * tensor.cols));
  NEAP_CHECK(tensor.scales.size() == static_cast<std::size_t>(tensor.rows * tensor.layout.groups(tensor.cols)));
  for (const E2m1 code : tensor.codes) NEAP_CHECK(code < 16 && code != kE2m1Sign);
  for (const std::uint8_t scale : tensor.scales) NEAP_CHECK(usable_scale(tensor.layout, scale));
  NEAP_CHECK(usable_global_scale(tensor.layout, tensor.global_scale));
}

float global_scale_of_maximum(float max_abs) {
  const float scale = 1 / std::min(max_abs, 0x1p126f) * (kE4m3Max * kE2m1Max);
  return std::isfinite(scale) ? scale : 1.0f;
}

std::uint8_t fp4_scale_of_maximum(const Fp4Layout& layout, float max_abs, float global_scale) {
  if (layout.format == BlockScaled::mxfp4) return mx_scale_of_maximum(max_abs);
  const E4m3 scale = float_to_e4m3(global_scale * (max_abs / kE2m1Max));
  return scale == 0 ? kE4m3Eighth : scale;
}

float fp4_scale(const Fp4Layout& layout, std::uint8_t bits, float global_scale) {
  return layout.format == BlockScaled::mxfp4 ? e8m0_to_float(bits) : e4m3_to_float(bits) / global_scale;
}

Fp4Tensor round_to_fp4(MatrixView<const float> weight, const Fp4Layout& layout, float global_scale) {
  const auto rows = static_cast<std::int64_t>(weight.rows), cols = static_cast<std::int64_t>(weight.cols);
  NEAP_CHECK(rows > 0 && cols > 0 && cols % layout.group() == 0 && usable_global_scale(layout, global_scale));
  const std::int64_t groups = layout.groups(cols), width = layout.group();
  Fp4Tensor tensor{layout, rows, cols, std::vector<E2m1>(static_cast<std::size_t>(rows * cols)),
                   std::vector<std::uint8_t>(static_cast<std::size_t>(rows * groups)), global_scale};
  for_rows(rows, cols, [&](std::int64_t r) {
    const float* from = weight.row(static_cast<std::size_t>(r));
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::uint8_t bits = fp4_scale_of_maximum(layout, largest_of(from + g * width, width), global_scale);
      const float scale = fp4_scale(layout, bits, global_scale);
      tensor.scales[static_cast<std::size_t>(r * groups + g)] = bits;
      for (std::int64_t c = g * width; c < (g + 1) * width; ++c)
        tensor.codes[static_cast<std::size_t>(r * cols + c)] = float_to_e2m1(from[c] / scale);
    }
  });
  return tensor;
}

void dequantize(const Fp4Tensor& tensor, std::int64_t first, std::int64_t count, MatrixView<float> out) {
  NEAP_CHECK(first >= 0 && count >= 0 && first + count <= tensor.rows);
  NEAP_CHECK(out.rows == static_cast<std::size_t>(count) && out.cols == static_cast<std::size_t>(tensor.cols));
  const std::int64_t groups = tensor.layout.groups(tensor.cols), width = tensor.layout.group();
  for_rows(count, tensor.cols, [&](std::int64_t r) {
    const E2m1* codes = tensor.codes.data() + (first + r) * tensor.cols;
    const std::uint8_t* scales = tensor.scales.data() + (first + r) * groups;
    float* row = out.row(static_cast<std::size_t>(r));
    for (std::int64_t c = 0; c < tensor.cols; ++c)
      row[c] = e2m1_to_float(codes[c]) * fp4_scale(tensor.layout, scales[c / width], tensor.global_scale);
  });
}

double bits_per_weight(const Fp4Layout& layout, std::int64_t, std::int64_t) {
  return 4 + 8.0 / static_cast<double>(layout.group());
}

}  // namespace neap
