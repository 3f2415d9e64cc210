// Stored numbers to floats: plain floating-point types and the block types of GGUF. The arithmetic
// is that of the `gguf` package's gguf.quants.dequantize, operation by operation, so the bits agree
// (NaNs excepted, whose payload depends on the processor).
#pragma once

#include <cstddef>

#include "neap/tensor.h"

namespace neap {

// Whether dequantize_blocks knows the type: all but the integers and the 8-bit floats, whose values
// need a scale from elsewhere.
bool can_dequantize(DType type);

// `count` elements, a whole number of blocks, of a type that can_dequantize. `from` need not be
// aligned. Runs on the calling thread.
void dequantize_blocks(DType type, const std::byte* from, float* to, std::size_t count);

}  // namespace neap
