// A module in LO-BCQ's format and its codebooks: types, shapes, lengths and bytes from the input.
// Judge: what is accepted keeps every promise, decodes to finite numbers, and encoding it again
// gives the same bytes.
//
// Input: layout | rows | cols | which part has another shape | by how much, a byte each; then the
// parts' bytes one after another (weight_shape, global scale, scale, selector, packed, codebooks),
// the last ones short or missing where the input ends.
#include "codec/lobcq.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "codec/lobcq_pack.h"
#include "neap/check.h"
#include "neap/error.h"
#include "parts.h"

namespace {

using neap::DType;

constexpr std::size_t kHead = 5;

void judge(const neap::LobcqModule& module, const neap::LobcqTensor& tensor) {
  neap::check_invariants(tensor);
  const auto bytes = neap::encode_lobcq_parts(tensor);
  const neap::StoredTensor* stored[] = {&module.packed, &module.selector, &module.scale,
                                        &module.global_scale, &module.shape};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    NEAP_CHECK(std::equal(bytes[i].begin(), bytes[i].end(), stored[i]->bytes.begin(),
                          stored[i]->bytes.end()));
  }
}

void judge(const neap::LobcqTensor& tensor, const neap::Codebooks& codebooks) {
  neap::Matrix<float> out(static_cast<std::size_t>(tensor.rows),
                          static_cast<std::size_t>(tensor.cols));
  neap::dequantize(tensor, codebooks, 0, tensor.rows, out);
  for (std::size_t i = 0; i < out.rows() * out.cols(); ++i)
    NEAP_CHECK(std::isfinite(out.data()[i]));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kHead) return 0;
  const neap::LobcqLayout layout{16 << (data[0] & 3), 2 << ((data[0] >> 2) % 3),
                                 2 << ((data[0] >> 4) & 3)};
  const std::int64_t rows = data[1] % 16, cols = data[2];
  neap::fuzz::Parts parts({data + kHead, size - kHead}, data[3] % 16, data[4]);
  neap::LobcqModule module;
  module.shape = parts.next("shape", DType::i64, {2});
  module.global_scale = parts.next("global_scale", DType::f32, {1});
  module.scale = parts.next("scale", DType::f8_e4m3, {rows, layout.arrays(cols)});
  module.selector =
      parts.next("selector", DType::u8, {rows, neap::packed_selector_bytes(layout, cols)});
  module.packed = parts.next("packed", DType::u8, {rows, neap::packed_code_bytes(layout, cols)});
  const auto codebooks =
      parts.next("codebooks", DType::i8, {layout.codebooks, neap::kCodebookEntries});
  try {
    const neap::LobcqTensor tensor = neap::decode_lobcq(module, layout);
    judge(module, tensor);
    judge(tensor, neap::decode_codebooks(codebooks, layout));
  } catch (const neap::Error& error) {
    NEAP_CHECK(error.code() == neap::ErrorCode::format);
    NEAP_CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
  return 0;
}
