// Sizes of tensors as files claim them, safe from overflow.
#pragma once

#include <cstdint>
#include <optional>

#include "neap/tensor.h"

namespace neap {

// Product of the dimensions, 1 for a scalar. Nothing if a dimension is negative or the product of
// those that are not zero does not fit in 63 bits: afterwards any subset of them may be multiplied.
std::optional<std::int64_t> checked_elements(const Shape& shape);

// Bytes of a tensor. Nothing where checked_elements gives nothing, where the bytes do not fit in 63
// bits, or where a row (the last dimension; a scalar is a row of one) is not a whole number of
// blocks.
std::optional<std::uint64_t> checked_bytes(DType type, const Shape& shape);

}  // namespace neap
