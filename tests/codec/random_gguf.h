// Random GgufTensors that keep every promise, whatever the type.
#pragma once

#include <random>

#include "base/half.h"
#include "codec/gguf_blocks.h"

namespace neap {

inline GgufTensor random_gguf(const GgufLayout& layout, std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto half = [&] {  // either sign
    return fp16_to_float(float_to_fp16(0.02f * (static_cast<float>(random()) * 0x1p-31f - 1)));
  };
  GgufTensor tensor{layout, rows, cols, {}, {}, {}, {}, {}};
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    tensor.codes.push_back(static_cast<std::uint8_t>(random() >> (32 - code_bits(layout))));
  }
  for (std::int64_t i = 0; i < rows * cols / static_cast<std::int64_t>(block_elements(layout.type)); ++i) {
    tensor.scales.push_back(half());
    if (has_minima(layout)) tensor.minima.push_back(half());
  }
  const auto [lowest, highest] = sub_scale_range(layout);
  const auto from = [&](int low, int high) { return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1)); };
  for (std::int64_t i = 0; sub_group(layout) > 0 && i < rows * cols / sub_group(layout); ++i) {
    tensor.sub_scales.push_back(static_cast<std::int8_t>(from(lowest, highest)));
    if (has_minima(layout)) tensor.sub_minima.push_back(static_cast<std::uint8_t>(from(0, highest)));
  }
  return tensor;
}

}  // namespace neap
