#include "io/shards.h"

#include "io/tensor_bytes.h"
#include "neap/check.h"

namespace neap {

std::uint64_t stored_bytes(const TensorSpec& tensor) {
  const auto bytes = checked_bytes(tensor.type, tensor.shape);
  NEAP_CHECK(bytes);
  return *bytes;
}

std::vector<std::vector<TensorSpec>> cut_into_shards(const std::vector<TensorSpec>& tensors, std::uint64_t max_bytes) {
  std::vector<std::vector<TensorSpec>> shards(1);
  std::uint64_t filled = 0;
  for (const TensorSpec& tensor : tensors) {
    const std::uint64_t bytes = stored_bytes(tensor);
    if (!shards.back().empty() && filled + bytes > max_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(tensor);
    filled += bytes;
  }
  return shards;
}

}  // namespace neap
