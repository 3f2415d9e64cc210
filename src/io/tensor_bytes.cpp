#include "io/tensor_bytes.h"

#include <algorithm>

namespace neap {

std::optional<std::int64_t> checked_elements(const Shape& shape) {
  if (std::any_of(shape.begin(), shape.end(), [](std::int64_t n) { return n < 0; })) return {};
  // A zero anywhere makes the product zero, in whatever order an overflow would come up.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::int64_t product = 1;
  for (const std::int64_t n : shape) {
    if (__builtin_mul_overflow(product, n, &product)) return {};
  }
  return product;
}

std::optional<std::uint64_t> checked_bytes(DType type, const Shape& shape) {
  const auto elements = checked_elements(shape);
  if (!elements) return {};
  const auto block = static_cast<std::int64_t>(block_elements(type));
  const std::int64_t row = shape.empty() ? 1 : shape.back();
  if (row % block != 0) return {};
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(*elements / block, static_cast<std::int64_t>(block_bytes(type)), &bytes)) {
    return {};
  }
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace neap
