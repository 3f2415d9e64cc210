// Which block type each matrix of a GGUF gets, by llama.cpp's own rules (llama-quant.cpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "neap/codec.h"
#include "neap/model.h"
#include "neap/tensor.h"

namespace neap {

// The type that the mix is built around, and that all matrices have with --pure.
DType base_type(GgufMix mix);
// The mix that is called by a type of blocks of 32.
GgufMix simple_mix(DType type);

// The type that llama-quantize gives a matrix ("model.layers.0.mlp.up_proj", "lm_head", "model.embed_tokens") in such a
// file (MXFP4 and NVFP4, of which it writes none: Q8_0 for embedding and head), before it looks whether the matrix's rows are whole blocks of it. calibrated: as with an imatrix.
DType mixed_type(GgufMix mix, const std::string& module, const ModelConfig& config, bool calibrated);

// What it falls back to where rows of `cols` are no whole number of blocks; nothing: the matrix stays as it is.
std::optional<DType> fallback_type(DType type, std::int64_t cols);

}  // namespace neap
