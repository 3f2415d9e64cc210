// Llama 3's stretched rotary frequencies as the divisors that GGUF states them by.
#pragma once

#include <cstddef>

#include "neap/model.h"

namespace neap {

// What transformers' "llama3" scaling divides frequency i, of head_dim / 2, by (modeling_rope_utils.py).
double llama3_divisor(const ModelConfig& config, const RopeScaling& scaling, std::size_t i);

}  // namespace neap
