#include "codec/gptq_pack.h"

#include <algorithm>
#include <cstring>

#include "codec/group_int.h"
#include "codec/pack_bits.h"
#include "codec/pack_quantized.h"
#include "neap/check.h"

namespace neap {
namespace {

// (rows, cols) elements of `size` bytes to (cols, rows).
std::vector<std::byte> transposed(std::span<const std::byte> from, std::size_t rows, std::size_t cols,
                                  std::size_t size) {
  std::vector<std::byte> to(from.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c) std::memcpy(&to[(c * rows + r) * size], &from[(r * cols + c) * size], size);
  }
  return to;
}

// Zero points of all rows, by group, each group's words one after another.
std::vector<std::byte> pack_zeros(const std::vector<std::uint8_t>& by_group, std::size_t groups, std::size_t rows,
                                  int bits) {
  const auto words = static_cast<std::size_t>(packed_words(static_cast<std::int64_t>(rows), bits));
  std::vector<std::uint32_t> packed(groups * words);
  for (std::size_t g = 0; g < groups; ++g) pack_codes(by_group.data() + g * rows, rows, bits, packed.data() + g * words);
  std::vector<std::byte> bytes(packed.size() * 4);
  std::memcpy(bytes.data(), packed.data(), bytes.size());
  return bytes;
}

std::vector<std::uint8_t> zeros_by_group(const QuantizedTensor& t, GptqVersion version) {
  const auto rows = static_cast<std::size_t>(t.rows), groups = static_cast<std::size_t>(t.layout.groups(t.cols));
  const int less = version == GptqVersion::v1 ? 1 : 0, middle = 1 << (t.layout.bits - 1);
  std::vector<std::uint8_t> zeros(groups * rows);
  for (std::size_t g = 0; g < groups; ++g) {
    for (std::size_t r = 0; r < rows; ++r) {
      const int zero = t.layout.symmetric ? middle : t.zeros[r * groups + g];
      NEAP_CHECK(zero >= less);
      zeros[g * rows + r] = static_cast<std::uint8_t>(zero - less);
    }
  }
  return zeros;
}

std::vector<std::byte> group_indices(const GroupLayout& layout, std::int64_t cols) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(cols) * 4);
  for (std::int64_t c = 0; c < cols; ++c) {
    const auto index = static_cast<std::int32_t>(layout.group == 0 ? 0 : c / layout.group);
    std::memcpy(&bytes[static_cast<std::size_t>(c) * 4], &index, 4);
  }
  return bytes;
}

void read_zeros(const StoredTensor& qzeros, GptqVersion version, QuantizedTensor& tensor) {
  const auto rows = static_cast<std::size_t>(tensor.rows);
  const auto groups = static_cast<std::size_t>(tensor.layout.groups(tensor.cols));
  const std::size_t width = qzeros.bytes.size() / groups;
  const int more = version == GptqVersion::v1 ? 1 : 0, middle = 1 << (tensor.layout.bits - 1);
  std::vector<std::uint8_t> codes(rows);
  if (!tensor.layout.symmetric) tensor.zeros.resize(rows * groups);
  for (std::size_t g = 0; g < groups; ++g) {
    NEAP_CHECK(unpack_codes(qzeros.bytes.data() + g * width, rows, tensor.layout.bits, Packing::dense, codes.data()));
    for (std::size_t r = 0; r < rows; ++r) {
      const int zero = codes[r] + more;
      if (tensor.layout.symmetric ? zero != middle : zero >> tensor.layout.bits != 0) {
        refuse(qzeros, "a zero point of output " + std::to_string(r) + " that cannot be",
               tensor.layout.symmetric ? std::to_string(middle) : "below " + std::to_string(2 * middle),
               std::to_string(zero));
      }
      if (!tensor.layout.symmetric) tensor.zeros[r * groups + g] = static_cast<std::uint8_t>(zero);
    }
  }
}

}  // namespace

std::string gptq_objection(const GroupLayout& layout, GptqVersion version, std::int64_t rows, std::int64_t cols) {
  const int bits = layout.bits;
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) return "has 2, 3, 4 or 8 bits";
  if (!layout.symmetric && version == GptqVersion::v1) return "of version 1 has no zero points that all readers agree on: gptq_v2 has";
  if (layout.group != 0 && cols % layout.group != 0) return "has groups that divide the inputs";
  const std::int64_t codes = bits == 3 ? 32 : 32 / bits;  // in a whole number of words
  if (cols % codes != 0 || rows % codes != 0) return "has inputs and outputs in multiples of " + std::to_string(codes);
  return {};
}

std::vector<PartInfo> gptq_parts(const GroupLayout& layout, std::int64_t rows, std::int64_t cols) {
  const std::int64_t groups = layout.groups(cols);
  return {{".qweight", DType::i32, {packed_words(cols, layout.bits), rows}},
          {".qzeros", DType::i32, {groups, packed_words(rows, layout.bits)}},
          {".scales", DType::f16, {groups, rows}},
          {".g_idx", DType::i32, {cols}}};
}

std::vector<std::vector<std::byte>> encode_gptq(const QuantizedTensor& tensor, GptqVersion version) {
  NEAP_CHECK(tensor.layout.scale_type == DType::f16);
  NEAP_CHECK(gptq_objection(tensor.layout, version, tensor.rows, tensor.cols).empty());
  const auto rows = static_cast<std::size_t>(tensor.rows);
  const auto groups = static_cast<std::size_t>(tensor.layout.groups(tensor.cols));
  const auto words = static_cast<std::size_t>(packed_words(tensor.cols, tensor.layout.bits));
  const auto parts = encode_pack_quantized(tensor);
  return {transposed(parts[0], rows, words, 4),
          pack_zeros(zeros_by_group(tensor, version), groups, rows, tensor.layout.bits),
          transposed(parts[1], rows, groups, 2), group_indices(tensor.layout, tensor.cols)};
}

QuantizedTensor decode_gptq(const GptqModule& module, const GroupLayout& layout, GptqVersion version,
                            std::int64_t rows, std::int64_t cols) {
  NEAP_CHECK(gptq_objection(layout, version, rows, cols).empty());
  const std::vector<PartInfo> parts = gptq_parts(layout, rows, cols);
  const StoredTensor* stored[] = {&module.qweight, &module.qzeros, &module.scales, &module.g_idx};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    require_type(*stored[i], parts[i].type);
    require_shape(*stored[i], parts[i].shape);
  }
  if (!std::ranges::equal(module.g_idx.bytes, group_indices(layout, cols))) {
    refuse(module.g_idx, "inputs are not in groups of consecutive ones", "input / group size", "others (act-order)");
  }
  // As compressed-tensors has it, but for the zero points.
  const auto packed = transposed(module.qweight.bytes, static_cast<std::size_t>(parts[0].shape[0]), static_cast<std::size_t>(rows), 4);
  const auto scales = transposed(module.scales.bytes, static_cast<std::size_t>(parts[2].shape[0]), static_cast<std::size_t>(rows), 2);
  PackQuantizedModule turned{.packed = module.qweight, .scale = module.scales, .shape = module.qweight, .zero_point = {}};
  const std::int64_t extent[] = {rows, cols};
  turned.packed = {module.qweight.info, packed};
  turned.packed.info.shape = {rows, parts[0].shape[0]};
  turned.scale = {module.scales.info, scales};
  turned.scale.info.shape = {rows, parts[2].shape[0]};
  turned.shape.info.type = DType::i64;
  turned.shape.info.shape = {2};
  turned.shape.bytes = std::as_bytes(std::span(extent));
  QuantizedTensor tensor = decode_pack_quantized(turned, layout.bits, layout.group, /*symmetric=*/true);
  tensor.layout.symmetric = layout.symmetric;
  read_zeros(module.qzeros, version, tensor);
  return tensor;
}

}  // namespace neap
