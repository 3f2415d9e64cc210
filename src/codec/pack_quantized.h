// compressed-tensors' `pack-quantized` form of a QuantizedTensor: what stands in the file for a
// module in place of its `weight`. Byte by byte in docs/formats/compressed-tensors.md.
//
//   weight_packed      I32 [rows, words(cols)]        codes along a row, packed (codec/pack_bits.h)
//   weight_scale       F16 | BF16 | F32 [rows, groups]
//   weight_zero_point  I32 [words(rows), groups]      asymmetric only; packed down the rows
//   weight_shape       I64 [2]                        rows, cols
//
// The file's arithmetic is signed, scale (q - zp) with q = code - 2^(bits-1) and zp = zero -
// 2^(bits-1), but what is packed is q + 2^(bits-1): our unsigned codes and zeros as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "codec/stored_tensor.h"
#include "neap/codec.h"

namespace neap {

struct PackQuantizedModule {
  StoredTensor packed, scale, shape;
  std::optional<StoredTensor> zero_point;
};

// `bits`, `group` (0: whole row) and `symmetric` are what the model's configuration says of the
// module; scale_type is the stored one's. Codes are read in the dense packing, or, where the width
// of weight_packed fits only that, in the sparse one of before 0.18. Throws Error(format), naming
// file, tensor, expected and found: a tensor of another type, shape or length than the rest
// implies, a zero point where there must be none or none where there must be one, a bit that
// belongs to no code, a scale that is not positive and finite.
QuantizedTensor decode_pack_quantized(const PackQuantizedModule& module, int bits,
                                      std::int64_t group, bool symmetric);

// The tensors that encode_pack_quantized gives for a tensor of this layout and shape, in its order.
std::vector<PartInfo> pack_quantized_parts(const GroupLayout& layout, std::int64_t rows,
                                           std::int64_t cols);

// The bytes of each part as they lie in the file, dense packing. `tensor` keeps the promises of
// QuantizedTensor (NEAP_CHECKed).
std::vector<std::vector<std::byte>> encode_pack_quantized(const QuantizedTensor& tensor);

}  // namespace neap
