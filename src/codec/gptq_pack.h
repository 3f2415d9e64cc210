// The form that GPTQ's first programs gave a QuantizedTensor, and that AutoGPTQ and GPTQModel kept: what stands in the
// file for a module in place of its `weight`. Byte by byte in docs/formats/gptq.md.
//
//   qweight  I32 [words(cols), rows]    codes packed down the inputs (codec/pack_bits.h, dense)
//   qzeros   I32 [groups, words(rows)]  zero points packed along the outputs: less one in version 1, as they are in 2
//   scales   F16 [groups, rows]
//   g_idx    I32 [cols]                 the group of each input: c / group
//
// Word for word the transpose of compressed-tensors' `pack-quantized` (codec/pack_quantized.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codec/stored_tensor.h"
#include "neap/codec.h"

namespace neap {

enum class GptqVersion {
  v1,  // "gptq": what every reader knows; a zero point of 0 would borrow from its neighbour
  v2,  // "gptq_v2"
};

struct GptqModule {
  StoredTensor qweight, qzeros, scales, g_idx;
};

// Whether the format holds the shape: 2, 3, 4 or 8 bits, inputs and outputs whole words of codes, groups that divide
// the inputs; in version 1 no zero points, on whose 0 readers disagree. Empty: yes; else why not, in a few words.
std::string gptq_objection(const GroupLayout& layout, GptqVersion version, std::int64_t rows, std::int64_t cols);

// For what has no objection; layout.scale_type is F16.
std::vector<PartInfo> gptq_parts(const GroupLayout& layout, std::int64_t rows, std::int64_t cols);
std::vector<std::vector<std::byte>> encode_gptq(const QuantizedTensor& tensor, GptqVersion version);

// bits, group (0: whole row), symmetric and version are what the model's configuration says; (rows, cols) the shape that
// the architecture asks for. Throws Error(format), naming file, tensor, expected and found: a tensor of another type or
// shape, groups that are scattered (act-order), zero points other than the middle in a symmetric module, a scale that is
// not positive and finite.
QuantizedTensor decode_gptq(const GptqModule& module, const GroupLayout& layout, GptqVersion version,
                            std::int64_t rows, std::int64_t cols);

}  // namespace neap
