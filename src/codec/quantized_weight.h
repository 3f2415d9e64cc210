// A linear layer's decided weights on whichever grid, for code that only hands them on.
#pragma once

#include <cstdint>
#include <variant>

#include "codec/fp4.h"
#include "codec/gguf_blocks.h"
#include "codec/lobcq.h"
#include "neap/codec.h"

namespace neap {

using QuantizedWeight = std::variant<QuantizedTensor, LobcqTensor, Fp4Tensor, GgufTensor>;

std::int64_t rows_of(const QuantizedWeight& weight);
std::int64_t cols_of(const QuantizedWeight& weight);
WeightLayout layout_of(const QuantizedWeight& weight);

// As the layout's own function has it.
double bits_per_weight(const WeightLayout& layout, std::int64_t rows, std::int64_t cols);

// Rows [first, first + count), by the layout's own function. codebooks: those of the model's
// weights; looked at for LO-BCQ alone. out: (count, cols).
void dequantize(const QuantizedWeight& weight, const Codebooks& codebooks, std::int64_t first,
                std::int64_t count, MatrixView<float> out);

}  // namespace neap
