#include "codec/stored_tensor.h"

#include <cstring>
#include <utility>

#include "neap/error.h"

namespace neap {
namespace {

constexpr std::int64_t kMaxWeights = std::int64_t{1} << 40;

}  // namespace

void refuse(const StoredTensor& tensor, const std::string& message, std::string expected,
            std::string found) {
  throw Error(ErrorCode::format, message,
              {.file = tensor.info.file,
               .tensor = tensor.info.name,
               .offset = {},
               .expected = std::move(expected),
               .found = std::move(found)});
}

void require_type(const StoredTensor& tensor, DType type) {
  if (tensor.info.type == type) return;
  refuse(tensor, "wrong element type", std::string(name_of(type)),
         std::string(name_of(tensor.info.type)));
}

void require_shape(const StoredTensor& tensor, const Shape& shape) {
  if (tensor.info.shape != shape) {
    refuse(tensor, "wrong shape", to_string(shape), to_string(tensor.info.shape));
  }
  std::size_t bytes = block_bytes(tensor.info.type);
  for (const std::int64_t n : shape) bytes *= static_cast<std::size_t>(n);
  if (tensor.bytes.size() != bytes) {
    refuse(tensor, "wrong length", std::to_string(bytes) + " bytes",
           std::to_string(tensor.bytes.size()) + " bytes");
  }
}

MatrixExtent read_matrix_extent(const StoredTensor& shape) {
  require_type(shape, DType::i64);
  require_shape(shape, {2});
  MatrixExtent extent;
  std::memcpy(&extent.rows, shape.bytes.data(), 8);
  std::memcpy(&extent.cols, shape.bytes.data() + 8, 8);
  const bool sane = extent.rows > 0 && extent.cols > 0 && extent.cols <= kMaxWeights &&
                    extent.rows <= kMaxWeights / extent.cols;
  if (!sane) {
    refuse(shape, "not the shape of a matrix", "two positive numbers",
           to_string(Shape{extent.rows, extent.cols}));
  }
  return extent;
}

}  // namespace neap
