// Tensors as they lie in a file, between a reader or writer of files and the packed layouts, which
// know no files. Checks here throw Error(format) naming file, tensor, expected and found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "neap/tensor.h"

namespace neap {

// As a file's reader hands it over: what the header says and the bytes it points at.
struct StoredTensor {
  TensorInfo info;
  std::span<const std::byte> bytes;
};

// One of the tensors that stand in a file for a module.
struct PartInfo {
  std::string suffix;  // after the module's name: ".weight_packed"
  DType type;
  Shape shape;
};

[[noreturn]] void refuse(const StoredTensor& tensor, const std::string& message,
                         std::string expected, std::string found);
void require_type(const StoredTensor& tensor, DType type);
// Also that there are as many bytes as the shape asks for.
void require_shape(const StoredTensor& tensor, const Shape& shape);

// The two numbers of a `weight_shape`, I64 [2]: both positive, their product at most 2^40.
struct MatrixExtent {
  std::int64_t rows, cols;
};
MatrixExtent read_matrix_extent(const StoredTensor& shape);

}  // namespace neap
