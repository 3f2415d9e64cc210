// A packed module: types, shapes, lengths and bytes from the input. Judge: what is accepted keeps
// every promise, and encoding it again gives the same module.
//
// Input: bits - 1 | group | flags | rows | cols | which part has another shape | by how much, a
// byte each; then the parts' bytes one after another (weight_shape, packed, scale, zero point), the
// last ones short or missing where the input ends.
#include "codec/pack_quantized.h"

#include <cstdint>
#include <cstring>
#include <string>

#include "codec/group_int.h"
#include "codec/pack_bits.h"
#include "neap/check.h"
#include "neap/error.h"
#include "parts.h"

namespace {

using neap::DType;

constexpr std::size_t kHead = 7;

void judge(const neap::QuantizedTensor& tensor) {
  neap::check_invariants(tensor);
  const auto infos = neap::pack_quantized_parts(tensor.layout, tensor.rows, tensor.cols);
  const auto bytes = neap::encode_pack_quantized(tensor);
  const auto part = [&](std::size_t i) {
    return neap::StoredTensor{
        {infos[i].suffix, infos[i].type, infos[i].shape, "again", 0, bytes[i].size()}, bytes[i]};
  };
  neap::PackQuantizedModule module{part(0), part(1), part(infos.size() - 1), {}};
  if (!tensor.layout.symmetric) module.zero_point = part(2);
  const auto& layout = tensor.layout;
  NEAP_CHECK(neap::decode_pack_quantized(module, layout.bits, layout.group, layout.symmetric) ==
             tensor);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kHead) return 0;
  const int bits = 1 + data[0] % 8;
  const std::int64_t group = data[1] % 40, rows = data[3], cols = data[4];
  const bool symmetric = data[2] & 1, has_zero = data[2] & 2;
  const auto packing = data[2] & 4 ? neap::Packing::sparse : neap::Packing::dense;
  const DType types[] = {DType::f16, DType::bf16, DType::f32, DType::i32};
  const std::int64_t groups = neap::GroupLayout{.group = group}.groups(cols);

  neap::fuzz::Parts parts({data + kHead, size - kHead}, data[5] % 8, data[6]);
  neap::PackQuantizedModule module;
  module.shape = parts.next("shape", DType::i64, {2});
  module.packed = parts.next("packed", DType::i32, {rows, neap::packed_words(cols, bits, packing)});
  module.scale = parts.next("scale", types[data[2] >> 6], {rows, groups});
  if (has_zero) {
    module.zero_point =
        parts.next("zero", DType::i32, {neap::packed_words(rows, bits, packing), groups});
  }
  try {
    judge(neap::decode_pack_quantized(module, bits, group, symmetric));
  } catch (const neap::Error& error) {
    NEAP_CHECK(error.code() == neap::ErrorCode::format);
    NEAP_CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
  return 0;
}
