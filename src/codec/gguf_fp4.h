// 4-bit floats in the block types of GGUF: MXFP4 and NVFP4. Layouts: docs/formats/gguf.md, after ggml-common.h of llama.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "codec/fp4.h"
#include "neap/tensor.h"

namespace neap {

// The block type that holds the layout's codes and group scales.
DType gguf_type_of(const Fp4Layout& layout);

// NVFP4's global scale for a matrix in a GGUF: the largest power of two that takes max_abs to no more than 6 * 448, so that dividing by it,
// which llama.cpp does to products, rounds nothing. 1 where max_abs is 0. max_abs: finite, >= 0.
float gguf_global_scale(float max_abs);

// What blocks have no place for, and what all weights of a matrix are multiplied by: ".scale" beside its ".weight". 1 for MXFP4.
float gguf_matrix_scale(const Fp4Tensor& tensor);

// The rows one after another, as they lie in a file; cols is a multiple of the block type's elements. NEAP_CHECKs every promise of Fp4Tensor.
std::vector<std::byte> encode_gguf_blocks(const Fp4Tensor& tensor);

// The reverse, of files that other programs write too. bytes: whole rows; matrix_scale: gguf_matrix_scale, or any other number. Nothing where a
// scale is none that Fp4Tensor may have. -0 becomes 0.
std::optional<Fp4Tensor> decode_gguf_blocks(const Fp4Layout& layout, std::span<const std::byte> bytes, std::int64_t rows, std::int64_t cols,
                                            float matrix_scale);

}  // namespace neap
