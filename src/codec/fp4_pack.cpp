#include "codec/fp4_pack.h"

#include <cstring>
#include <string>

#include "neap/check.h"

namespace neap {
namespace {

constexpr Fp4Layout kNvfp4{BlockScaled::nvfp4};

std::vector<E2m1> read_codes(const StoredTensor& packed, std::size_t count) {
  std::vector<E2m1> codes(count);
  const auto canonical = [](unsigned code) { return static_cast<E2m1>(code == kE2m1Sign ? 0 : code); };
  for (std::size_t i = 0; i < count / 2; ++i) {
    const auto pair = std::to_integer<unsigned>(packed.bytes[i]);
    codes[2 * i] = canonical(pair & 15u);
    codes[2 * i + 1] = canonical(pair >> 4);
  }
  return codes;
}

template <class T>
std::vector<std::byte> bytes_of(const T* values, std::size_t count) {
  std::vector<std::byte> bytes(count * sizeof(T));
  std::memcpy(bytes.data(), values, bytes.size());
  return bytes;
}

}  // namespace

std::vector<PartInfo> fp4_parts(const Fp4Layout& layout, std::int64_t rows, std::int64_t cols) {
  NEAP_CHECK(cols % layout.group() == 0);
  const bool nvfp4 = layout.format == BlockScaled::nvfp4;
  std::vector<PartInfo> parts = {
      {".weight_packed", DType::u8, {rows, cols / 2}},
      {".weight_scale", nvfp4 ? DType::f8_e4m3 : DType::u8, {rows, layout.groups(cols)}}};
  if (nvfp4) parts.push_back({".weight_global_scale", DType::f32, {1}});
  return parts;
}

float read_global_scale(const StoredTensor& tensor) {
  require_type(tensor, DType::f32);
  require_shape(tensor, {1});
  float scale = 0;
  std::memcpy(&scale, tensor.bytes.data(), sizeof scale);
  if (!usable_global_scale(kNvfp4, scale))
    refuse(tensor, "the global scale cannot be used", "a positive number under which no value is infinite",
           std::to_string(scale));
  return scale;
}

Fp4Tensor decode_fp4(const Fp4Module& module, const Fp4Layout& layout, std::int64_t rows, std::int64_t cols) {
  const auto parts = fp4_parts(layout, rows, cols);
  const StoredTensor* stored[] = {&module.packed, &module.scale};
  for (std::size_t i = 0; i < 2; ++i) {
    require_type(*stored[i], parts[i].type);
    require_shape(*stored[i], parts[i].shape);
  }
  NEAP_CHECK(module.global_scale.has_value() == (layout.format == BlockScaled::nvfp4));
  Fp4Tensor tensor{.layout = layout, .rows = rows, .cols = cols, .codes = {}, .scales = {}};
  if (module.global_scale) tensor.global_scale = read_global_scale(*module.global_scale);
  tensor.scales.resize(module.scale.bytes.size());
  std::memcpy(tensor.scales.data(), module.scale.bytes.data(), tensor.scales.size());
  for (std::size_t i = 0; i < tensor.scales.size(); ++i) {
    if (usable_scale(layout, tensor.scales[i])) continue;
    refuse(module.scale, "scale " + std::to_string(i) + " cannot be used", "a number that is not negative",
           "bit pattern " + std::to_string(tensor.scales[i]));
  }
  tensor.codes = read_codes(module.packed, static_cast<std::size_t>(rows * cols));
  return tensor;
}

std::vector<std::vector<std::byte>> encode_fp4_parts(const Fp4Tensor& tensor) {
  check_invariants(tensor);
  std::vector<std::byte> packed(tensor.codes.size() / 2);
  for (std::size_t i = 0; i < packed.size(); ++i)
    packed[i] = static_cast<std::byte>(tensor.codes[2 * i] | tensor.codes[2 * i + 1] << 4);
  std::vector<std::vector<std::byte>> parts;
  parts.push_back(std::move(packed));
  parts.push_back(bytes_of(tensor.scales.data(), tensor.scales.size()));
  if (tensor.layout.format == BlockScaled::nvfp4) parts.push_back(bytes_of(&tensor.global_scale, 1));
  return parts;
}

}  // namespace neap
