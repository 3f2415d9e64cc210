#include "codec/gguf_fp4.h"

#include <cmath>

#include "neap/check.h"

namespace neap {
namespace {

// Elements j and j + half of a group share a byte.
std::uint8_t* put_group(const E2m1* codes, std::int64_t half, std::uint8_t* to) {
  for (std::int64_t j = 0; j < half; ++j) *to++ = static_cast<std::uint8_t>(codes[j] | codes[j + half] << 4);
  return to;
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

}  // namespace neap
