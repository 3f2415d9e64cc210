// Tensors that are going to be written, and which file of several each goes to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "neap/tensor.h"

namespace neap {

struct TensorSpec {
  std::string name;
  DType type = DType::f32;
  Shape shape;
};

// What a tensor of this type and shape takes. NEAP_CHECKs that its rows are whole blocks.
std::uint64_t stored_bytes(const TensorSpec& tensor);

// The tensors in the order given, cut wherever a file would hold more than max_bytes of them; a tensor that is
// larger has a file to itself. One file, empty, if there are none.
std::vector<std::vector<TensorSpec>> cut_into_shards(const std::vector<TensorSpec>& tensors, std::uint64_t max_bytes);

}  // namespace neap
