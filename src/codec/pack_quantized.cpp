#include "codec/pack_quantized.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "base/parallel.h"
#include "codec/group_int.h"
#include "codec/pack_bits.h"
#include "neap/error.h"

namespace neap {
namespace {

// A width that fits both packings (short rows, whose length is no multiple of 32) is read as dense.
Packing packing_of(const StoredTensor& packed, MatrixExtent extent, int bits) {
  require_type(packed, DType::i32);
  const Shape dense{extent.rows, packed_words(extent.cols, bits)};
  const Shape sparse{extent.rows, packed_words(extent.cols, bits, Packing::sparse)};
  if (packed.info.shape == dense || packed.info.shape != sparse) {
    require_shape(packed, dense);
    return Packing::dense;
  }
  require_shape(packed, sparse);
  return Packing::sparse;
}

std::vector<std::uint8_t> read_codes(const StoredTensor& packed, MatrixExtent extent, int bits,
                                     Packing packing) {
  const auto cols = static_cast<std::size_t>(extent.cols);
  const auto row_bytes = static_cast<std::size_t>(4 * packed_words(extent.cols, bits, packing));
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(extent.rows) * cols);
  const auto rows = static_cast<std::size_t>(extent.rows);
  const std::size_t tile = std::max<std::size_t>(1, (std::size_t{1} << 20) / cols);
  parallel_for((rows + tile - 1) / tile, [&](std::size_t t) {
    for (std::size_t r = t * tile; r < std::min(rows, (t + 1) * tile); ++r) {
      if (!unpack_codes(packed.bytes.data() + r * row_bytes, cols, bits, packing,
                        codes.data() + r * cols)) {
        refuse(packed, "row " + std::to_string(r) + " has bits outside its codes", "zero",
               "others");
      }
    }
  });
  return codes;
}

std::vector<float> read_scales(const StoredTensor& scale, std::int64_t rows, std::int64_t groups) {
  const DType type = scale.info.type;
  if (type != DType::f16 && type != DType::bf16 && type != DType::f32) {
    refuse(scale, "wrong element type", "F16, BF16 or F32", std::string(name_of(type)));
  }
  require_shape(scale, {rows, groups});
  const auto count = static_cast<std::size_t>(rows * groups);
  std::vector<float> scales(count);
  if (type == DType::f32) {
    std::memcpy(scales.data(), scale.bytes.data(), 4 * count);
  } else {
    std::vector<std::uint16_t> halves(count);
    std::memcpy(halves.data(), scale.bytes.data(), 2 * count);
    type == DType::f16 ? fp16_to_float(halves.data(), scales.data(), count)
                       : bf16_to_float(halves.data(), scales.data(), count);
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (std::isfinite(scales[i]) && scales[i] > 0) continue;
    refuse(scale, "scale " + std::to_string(i) + " cannot be used", "a positive finite number",
           std::to_string(scales[i]));
  }
  return scales;
}

std::vector<std::uint8_t> read_zeros(const StoredTensor& zero, MatrixExtent extent, std::int64_t groups,
                                     int bits, Packing packing) {
  require_type(zero, DType::i32);
  const std::int64_t words = packed_words(extent.rows, bits, packing);
  require_shape(zero, {words, groups});
  const auto rows = static_cast<std::size_t>(extent.rows),
             columns = static_cast<std::size_t>(groups);
  std::vector<std::uint32_t> column(static_cast<std::size_t>(words));
  std::vector<std::uint8_t> codes(rows), zeros(rows * columns);
  for (std::size_t g = 0; g < columns; ++g) {
    for (std::size_t w = 0; w < column.size(); ++w) {
      std::memcpy(&column[w], zero.bytes.data() + 4 * (w * columns + g), 4);
    }
    if (!unpack_codes(reinterpret_cast<const std::byte*>(column.data()), rows, bits, packing,
                      codes.data())) {
      refuse(zero, "group " + std::to_string(g) + " has bits outside its codes", "zero", "others");
    }
    for (std::size_t r = 0; r < rows; ++r) zeros[r * columns + g] = codes[r];
  }
  return zeros;
}

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::vector<std::byte> encode_codes(const QuantizedTensor& tensor) {
  const auto cols = static_cast<std::size_t>(tensor.cols),
             rows = static_cast<std::size_t>(tensor.rows);
  const auto width = static_cast<std::size_t>(packed_words(tensor.cols, tensor.layout.bits));
  std::vector<std::byte> bytes(4 * rows * width);
  const std::size_t tile = std::max<std::size_t>(1, (std::size_t{1} << 20) / cols);
  parallel_for((rows + tile - 1) / tile, [&](std::size_t t) {
    std::vector<std::uint32_t> words(width);
    for (std::size_t r = t * tile; r < std::min(rows, (t + 1) * tile); ++r) {
      pack_codes(tensor.codes.data() + r * cols, cols, tensor.layout.bits, words.data());
      std::memcpy(bytes.data() + 4 * r * width, words.data(), 4 * width);
    }
  });
  return bytes;
}

std::vector<std::byte> encode_scales(const QuantizedTensor& tensor) {
  if (tensor.layout.scale_type == DType::f32) return bytes_of(tensor.scales);
  std::vector<std::uint16_t> halves(tensor.scales.size());
  tensor.layout.scale_type == DType::f16
      ? float_to_fp16(tensor.scales.data(), halves.data(), halves.size())
      : float_to_bf16(tensor.scales.data(), halves.data(), halves.size());
  return bytes_of(halves);
}

std::vector<std::byte> encode_zeros(const QuantizedTensor& tensor) {
  const auto rows = static_cast<std::size_t>(tensor.rows);
  const auto groups = static_cast<std::size_t>(tensor.layout.groups(tensor.cols));
  std::vector<std::uint32_t> column(
      static_cast<std::size_t>(packed_words(tensor.rows, tensor.layout.bits)));
  std::vector<std::uint32_t> words(column.size() * groups);
  std::vector<std::uint8_t> codes(rows);
  for (std::size_t g = 0; g < groups; ++g) {
    for (std::size_t r = 0; r < rows; ++r) codes[r] = tensor.zeros[r * groups + g];
    pack_codes(codes.data(), rows, tensor.layout.bits, column.data());
    for (std::size_t w = 0; w < column.size(); ++w) words[w * groups + g] = column[w];
  }
  return bytes_of(words);
}

}  // namespace

QuantizedTensor decode_pack_quantized(const PackQuantizedModule& module, int bits,
                                      std::int64_t group, bool symmetric) {
  NEAP_CHECK(bits >= 1 && bits <= 8 && group >= 0);
  const MatrixExtent extent = read_matrix_extent(module.shape);
  const Packing packing = packing_of(module.packed, extent, bits);
  QuantizedTensor tensor;
  tensor.layout = {
      .bits = bits, .group = group, .symmetric = symmetric, .scale_type = module.scale.info.type};
  tensor.rows = extent.rows;
  tensor.cols = extent.cols;
  const std::int64_t groups = tensor.layout.groups(extent.cols);
  tensor.scales = read_scales(module.scale, extent.rows, groups);
  if (symmetric && module.zero_point) {
    refuse(*module.zero_point, "a symmetric module has zero points", "none", "a tensor");
  }
  if (!symmetric && !module.zero_point) {
    refuse(module.packed, "an asymmetric module has no weight_zero_point", "a tensor", "none");
  }
  if (!symmetric) tensor.zeros = read_zeros(*module.zero_point, extent, groups, bits, packing);
  tensor.codes = read_codes(module.packed, extent, bits, packing);
  return tensor;
}

std::vector<PartInfo> pack_quantized_parts(const GroupLayout& layout, std::int64_t rows,
                                           std::int64_t cols) {
  std::vector<PartInfo> parts = {
      {".weight_packed", DType::i32, {rows, packed_words(cols, layout.bits)}},
      {".weight_scale", layout.scale_type, {rows, layout.groups(cols)}}};
  if (!layout.symmetric) {
    parts.push_back(
        {".weight_zero_point", DType::i32, {packed_words(rows, layout.bits), layout.groups(cols)}});
  }
  parts.push_back({".weight_shape", DType::i64, {2}});
  return parts;
}

std::vector<std::vector<std::byte>> encode_pack_quantized(const QuantizedTensor& tensor) {
  check_invariants(tensor);
  std::vector<std::vector<std::byte>> parts;
  parts.push_back(encode_codes(tensor));
  parts.push_back(encode_scales(tensor));
  if (!tensor.layout.symmetric) parts.push_back(encode_zeros(tensor));
  parts.push_back(bytes_of(std::vector<std::int64_t>{tensor.rows, tensor.cols}));
  return parts;
}

}  // namespace neap
