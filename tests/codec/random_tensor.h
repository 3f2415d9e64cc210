// Random QuantizedTensors that keep every promise, whatever the layout.
#pragma once

#include <random>

#include "base/half.h"
#include "neap/codec.h"

namespace neap {

inline float stored(float value, DType type) {
  if (type == DType::f16) return fp16_to_float(float_to_fp16(value));
  if (type == DType::bf16) return bf16_to_float(float_to_bf16(value));
  return value;
}

inline QuantizedTensor random_tensor(const GroupLayout& layout, std::int64_t rows,
                                     std::int64_t cols, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto code = [&] { return static_cast<std::uint8_t>(random() >> (32 - layout.bits)); };
  QuantizedTensor tensor{layout, rows, cols, {}, {}, {}};
  for (std::int64_t i = 0; i < rows * cols; ++i) tensor.codes.push_back(code());
  for (std::int64_t i = 0; i < rows * layout.groups(cols); ++i) {
    const float value = 0.001f + 0.02f * static_cast<float>(random()) * 0x1p-32f;
    tensor.scales.push_back(stored(value, layout.scale_type));
    if (!layout.symmetric) tensor.zeros.push_back(code());
  }
  return tensor;
}

}  // namespace neap
