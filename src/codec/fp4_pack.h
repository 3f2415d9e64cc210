// What stands in a file for a module in compressed-tensors' `nvfp4-pack-quantized` and
// `mxfp4-pack-quantized`, in place of its `weight`. Byte by byte in docs/formats/block-scaled.md.
//
//   weight_packed         U8 [rows, cols / 2]                   E2M1 codes along a row, lower nibble first
//   weight_scale          F8_E4M3 [rows, cols / 16] (NVFP4) or U8 [rows, cols / 32] (MXFP4)
//   weight_global_scale   F32 [1]                               NVFP4 alone
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "codec/fp4.h"
#include "codec/stored_tensor.h"

namespace neap {

struct Fp4Module {
  StoredTensor packed, scale;
  std::optional<StoredTensor> global_scale;  // of NVFP4, and then it must be there
};

// The tensors of a (rows, cols) weight, whose cols the group divides.
std::vector<PartInfo> fp4_parts(const Fp4Layout& layout, std::int64_t rows, std::int64_t cols);

// -0, which other programs write, becomes +0. Throws Error(format), naming file, tensor, expected and
// found: a tensor of another type, shape or length than (rows, cols) implies, a scale that is negative,
// not a number, or so large that a value would be infinite.
Fp4Tensor decode_fp4(const Fp4Module& module, const Fp4Layout& layout, std::int64_t rows, std::int64_t cols);

// The bytes of each of fp4_parts as they lie in the file. `tensor` keeps its promises (NEAP_CHECKed).
std::vector<std::vector<std::byte>> encode_fp4_parts(const Fp4Tensor& tensor);

// One F32 number: a scale under which NVFP4 values are finite. Throws Error(format).
float read_global_scale(const StoredTensor& tensor);

}  // namespace neap
