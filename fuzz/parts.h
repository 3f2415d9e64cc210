// A module's parts out of a fuzzer's input.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "codec/stored_tensor.h"

namespace neap::fuzz {

// Parts one after another from `bytes`, the last ones short or missing where those end. The part number
// `odd_part` gets another shape: one dimension more by `difference`.
class Parts {
 public:
  Parts(std::span<const std::uint8_t> bytes, std::size_t odd_part, std::uint8_t difference)
      : rest_(std::as_bytes(bytes)), odd_part_(odd_part), difference_(static_cast<std::int8_t>(difference)) {}

  StoredTensor next(const std::string& name, DType type, Shape shape) {
    if (odd_part_ == index_) shape[index_ % shape.size()] += difference_;
    ++index_;
    std::size_t bytes = block_bytes(type);
    for (const std::int64_t n : shape) bytes *= static_cast<std::size_t>(std::max<std::int64_t>(n, 0));
    const auto taken = rest_.first(std::min(bytes, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return {{name, type, shape, "fuzz", 0, taken.size()}, taken};
  }

 private:
  std::span<const std::byte> rest_;
  std::size_t odd_part_, index_ = 0;
  std::int8_t difference_;
};

}  // namespace neap::fuzz
