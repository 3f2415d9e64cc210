#include "codec/gguf_fp4.h"

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "neap/check.h"

namespace neap {
namespace {

// Elements j and j + half of a group share a byte.
std::uint8_t* put_group(const E2m1* codes, std::int64_t half, std::uint8_t* to) {
  for (std::int64_t j = 0; j < half; ++j) *to++ = static_cast<std::uint8_t>(codes[j] | codes[j + half] << 4);
  return to;
}

void take_group(const std::uint8_t* from, std::int64_t half, E2m1* codes) {
  const auto without_minus_zero = [](int code) { return static_cast<E2m1>(code == kE2m1Sign ? 0 : code); };
  for (std::int64_t j = 0; j < half; ++j) {
    codes[j] = without_minus_zero(from[j] & 15);
    codes[j + half] = without_minus_zero(from[j] >> 4);
  }
}

}  // namespace

DType gguf_type_of(const Fp4Layout& layout) { return layout.format == BlockScaled::nvfp4 ? DType::nvfp4 : DType::mxfp4; }

float gguf_global_scale(float max_abs) {
  int exponent = 0;
  std::frexp(global_scale_of_maximum(max_abs), &exponent);
  return std::ldexp(1.0f, exponent - 1);
}

float gguf_matrix_scale(const Fp4Tensor& tensor) { return 1 / tensor.global_scale; }

std::vector<std::byte> encode_gguf_blocks(const Fp4Tensor& tensor) {
  check_invariants(tensor);
  const DType type = gguf_type_of(tensor.layout);
  const auto block = static_cast<std::int64_t>(block_elements(type));
  const std::int64_t group = tensor.layout.group(), scales = block / group;
  NEAP_CHECK(tensor.cols % block == 0);
  std::vector<std::byte> encoded(tensor.codes.size() / block_elements(type) * block_bytes(type));
  auto* to = reinterpret_cast<std::uint8_t*>(encoded.data());
  const E2m1* codes = tensor.codes.data();
  for (std::size_t first = 0; first < tensor.scales.size(); first += static_cast<std::size_t>(scales)) {
    for (std::int64_t s = 0; s < scales; ++s) *to++ = tensor.scales[first + static_cast<std::size_t>(s)];
    for (std::int64_t s = 0; s < scales; ++s, codes += group) to = put_group(codes, group / 2, to);
  }
  return encoded;
}

std::optional<Fp4Tensor> decode_gguf_blocks(const Fp4Layout& layout, std::span<const std::byte> bytes, std::int64_t rows, std::int64_t cols,
                                            float matrix_scale) {
  const DType type = gguf_type_of(layout);
  const auto block = static_cast<std::int64_t>(block_elements(type)), group = layout.group();
  NEAP_CHECK(cols % block == 0 && bytes.size() == static_cast<std::size_t>(rows * cols / block) * block_bytes(type));
  Fp4Tensor tensor{layout, rows, cols, std::vector<E2m1>(static_cast<std::size_t>(rows * cols)),
                   std::vector<std::uint8_t>(static_cast<std::size_t>(rows * cols / group)), 1 / matrix_scale};
  if (!usable_global_scale(layout, tensor.global_scale)) return {};
  parallel_for(static_cast<std::size_t>(rows), [&](std::size_t r) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(bytes.data()) + r * (bytes.size() / static_cast<std::size_t>(rows));
    E2m1* codes = tensor.codes.data() + static_cast<std::int64_t>(r) * cols;
    std::uint8_t* scale = tensor.scales.data() + static_cast<std::int64_t>(r) * (cols / group);
    for (std::int64_t b = 0; b < cols / block; ++b) {
      scale = std::copy_n(from, block / group, scale);
      from += block / group;
      for (std::int64_t g = 0; g < block; g += group, codes += group, from += group / 2) take_group(from, group / 2, codes);
    }
  });
  const auto usable = [&](std::uint8_t bits) { return usable_scale(layout, bits); };
  if (!std::all_of(tensor.scales.begin(), tensor.scales.end(), usable)) return {};
  return tensor;
}

}  // namespace neap
