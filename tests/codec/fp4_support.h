// Random Fp4Tensors that keep every promise.
#pragma once

#include <random>

#include "codec/fp4.h"

namespace neap {

inline Fp4Tensor random_fp4(const Fp4Layout& layout, std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
  std::mt19937 random(seed);
  const bool nvfp4 = layout.format == BlockScaled::nvfp4;
  Fp4Tensor tensor{.layout = layout, .rows = rows, .cols = cols, .codes = {}, .scales = {}};
  if (nvfp4) tensor.global_scale = 1000.0f + static_cast<float>(random() % 1000);
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    const auto code = static_cast<E2m1>(random() % 16);
    tensor.codes.push_back(code == kE2m1Sign ? E2m1{0} : code);
  }
  // About 0.004 to 0.4, as weights have them.
  for (std::int64_t i = 0; i < rows * layout.groups(cols); ++i)
    tensor.scales.push_back(static_cast<std::uint8_t>((nvfp4 ? 80 : 119) + random() % (nvfp4 ? 46 : 4)));
  return tensor;
}

// With scales at the ends of their ranges among the rest.
inline Fp4Tensor random_fp4_of_all_scales(const Fp4Layout& layout, std::int64_t rows, std::int64_t cols,
                                          std::uint32_t seed) {
  Fp4Tensor tensor = random_fp4(layout, rows, cols, seed);
  const bool nvfp4 = layout.format == BlockScaled::nvfp4;
  std::mt19937 random(seed + 1);
  for (std::uint8_t& scale : tensor.scales) {
    if (random() % 4 == 0) scale = static_cast<std::uint8_t>(random() % (nvfp4 ? kE4m3Largest + 1 : 160));
  }
  return tensor;
}

}  // namespace neap
