#include "io/tensor_bytes.h"

#include <algorithm>

namespace neap {

std::optional<std::int64_t> checked_elements(const Shape& shape) {
  if (std::any_of(shape.begin(), shape.end(), [](std::int64_t n) { return n < 0; })) return {};
  std::int64_t product = 1;
  bool empty = false;
  for (const std::int64_t n : shape) {
    empty |= n == 0;
    if (__builtin_mul_overflow(product, std::max<std::int64_t>(n, 1), &product)) return {};
  }
  return empty ? 0 : product;
}

std::optional<std::uint64_t> checked_bytes(DType type, const Shape& shape) {
  const auto elements = checked_elements(shape);
  if (!elements) return {};
  const auto block = static_cast<std::int64_t>(block_elements(type));
  const std::int64_t row = shape.empty() ? 1 : shape.back();
  if (row % block != 0) return {};
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(*elements / block, static_cast<std::int64_t>(block_bytes(type)),
                             &bytes)) {
    return {};
  }
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace neap
