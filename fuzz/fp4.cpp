// A module in NVFP4 or MXFP4: shapes, lengths and bytes from the input. Judge: what is accepted keeps every
// promise, decodes to finite numbers, and encoding it again gives the same bytes, -0 apart; as blocks of a GGUF it
// has the same values to whoever reads those.
//
// Input: format | rows | groups | which part has another shape | by how much, a byte each; then the parts'
// bytes one after another (global scale of NVFP4, scale, packed), the last ones short or missing where the
// input ends.
#include "codec/fp4.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "codec/fp4_pack.h"
#include "codec/gguf_fp4.h"
#include "io/dequantize.h"
#include "neap/check.h"
#include "neap/error.h"
#include "parts.h"

namespace {

using neap::DType;

constexpr std::size_t kHead = 5;

// The nibbles that mean the same: 8 is -0, which nobody writes again.
std::byte canonical(std::byte pair) {
  const auto nibbles = std::to_integer<unsigned>(pair);
  const unsigned low = nibbles & 15u, high = nibbles >> 4;
  return static_cast<std::byte>((low == neap::kE2m1Sign ? 0 : low) | (high == neap::kE2m1Sign ? 0 : high) << 4);
}

void judge(const neap::Fp4Module& module, const neap::Fp4Tensor& tensor) {
  neap::check_invariants(tensor);
  const auto bytes = neap::encode_fp4_parts(tensor);
  for (std::size_t i = 0; i < bytes[0].size(); ++i) NEAP_CHECK(bytes[0][i] == canonical(module.packed.bytes[i]));
  NEAP_CHECK(std::equal(bytes[1].begin(), bytes[1].end(), module.scale.bytes.begin(), module.scale.bytes.end()));
  neap::Matrix<float> out(static_cast<std::size_t>(tensor.rows), static_cast<std::size_t>(tensor.cols));
  neap::dequantize(tensor, 0, tensor.rows, out);
  for (std::size_t i = 0; i < out.rows() * out.cols(); ++i) NEAP_CHECK(std::isfinite(out.data()[i]));
}

void judge_blocks(neap::Fp4Tensor tensor) {
  const DType type = neap::gguf_type_of(tensor.layout);
  if (tensor.cols % static_cast<std::int64_t>(neap::block_elements(type)) != 0) return;
  tensor.global_scale = 1;  // stands beside the blocks
  const auto blocks = neap::encode_gguf_blocks(tensor);
  neap::Matrix<float> meant(static_cast<std::size_t>(tensor.rows), static_cast<std::size_t>(tensor.cols));
  neap::dequantize(tensor, 0, tensor.rows, meant);
  std::vector<float> read(tensor.codes.size());
  neap::dequantize_blocks(type, blocks.data(), read.data(), read.size());
  NEAP_CHECK(std::equal(read.begin(), read.end(), meant.data()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kHead) return 0;
  const bool nvfp4 = data[0] & 1;
  const neap::Fp4Layout layout{nvfp4 ? neap::BlockScaled::nvfp4 : neap::BlockScaled::mxfp4};
  const std::int64_t rows = 1 + data[1] % 16, groups = 1 + data[2] % 8, cols = groups * layout.group();
  neap::fuzz::Parts parts({data + kHead, size - kHead}, data[3] % 8, data[4]);
  neap::Fp4Module module;
  if (nvfp4) module.global_scale = parts.next("global_scale", DType::f32, {1});
  module.scale = parts.next("scale", nvfp4 ? DType::f8_e4m3 : DType::u8, {rows, groups});
  module.packed = parts.next("packed", DType::u8, {rows, cols / 2});
  try {
    const neap::Fp4Tensor tensor = neap::decode_fp4(module, layout, rows, cols);
    judge(module, tensor);
    judge_blocks(tensor);
  } catch (const neap::Error& error) {
    NEAP_CHECK(error.code() == neap::ErrorCode::format);
    NEAP_CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
  return 0;
}
