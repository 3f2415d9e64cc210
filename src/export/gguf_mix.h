// Which block type each matrix of a GGUF gets, by llama.cpp's own rules (llama-quant.cpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "neap/model.h"
#include "neap/tensor.h"

namespace neap {

// The type that llama-quantize gives a matrix ("model.layers.0.mlp.up_proj", "lm_head", "model.embed_tokens") in a
// file of `scheme` (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL), without regard to its shape. calibrated: as with an imatrix. With IQ4_NL llama-quantize
// gives some matrices Q5_K, which is not written here: those take Q5_1, a little more.
DType mixed_type(DType scheme, const std::string& module, const ModelConfig& config, bool calibrated);

// What it falls back to where rows of `cols` are no whole number of blocks; nothing: the matrix stays as it is.
std::optional<DType> fallback_type(DType type, std::int64_t cols);

// general.file_type.
std::uint32_t gguf_file_type(DType scheme);

}  // namespace neap
