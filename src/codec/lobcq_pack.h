// What stands in a file for a module in LO-BCQ's format, in place of its `weight`, and the
// codebooks that all modules share. Byte by byte in docs/formats/lobcq.md.
//
//   weight_packed         U8 [rows, code bytes]        4-bit codes along a row, lower nibble first
//   weight_selector       U8 [rows, selector bytes]    selectors along a row, least significant bit
//   first weight_scale          F8_E4M3 [rows, arrays] weight_global_scale   F32 [1] weight_shape
//   I64 [2]                      rows, cols
//
// Rows begin at bytes. A row's codes are padded with code 0 to a whole block, its selectors with 0
// bits to a whole byte: every tensor has one form, and decoding refuses any other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codec/lobcq.h"
#include "codec/stored_tensor.h"

namespace neap {

struct LobcqModule {
  StoredTensor packed, selector, scale, global_scale, shape;
};

// Bytes of a row of `cols` values.
std::int64_t packed_code_bytes(const LobcqLayout& layout, std::int64_t cols);
std::int64_t packed_selector_bytes(const LobcqLayout& layout, std::int64_t cols);

// `layout` is what the model's configuration says. Throws Error(format), naming file, tensor,
// expected and found: a tensor of another type, shape or length than the rest implies, a selector
// without a codebook, a scale that is NaN or -0, a tensor scale out of range, padding that is not
// 0, an array of zeros with codes or selectors that are not.
LobcqTensor decode_lobcq(const LobcqModule& module, const LobcqLayout& layout);

// The tensors that encode_lobcq_parts gives for this layout and shape, in its order.
std::vector<PartInfo> lobcq_parts(const LobcqLayout& layout, std::int64_t rows, std::int64_t cols);

// The bytes of each part as they lie in the file. `tensor` keeps its promises (NEAP_CHECKed).
std::vector<std::vector<std::byte>> encode_lobcq_parts(const LobcqTensor& tensor);

// Codebooks as an I8 [codebooks, 16] tensor. Throws Error(format): wrong type or shape, a codebook
// that does not ascend, an entry outside of [-31, 31].
Codebooks decode_codebooks(const StoredTensor& tensor, const LobcqLayout& layout);
std::vector<std::byte> encode_codebooks(const Codebooks& codebooks);

}  // namespace neap
