#include "codec/group_int.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "base/multiversion.h"
#include "base/parallel.h"
#include "codec/pack_bits.h"

namespace neap {
namespace {

NEAP_MULTIVERSION
void dequantize_run(const std::uint8_t* codes, std::size_t count, float scale, int zero,
                    float* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = scale * static_cast<float>(codes[i] - zero);
}

NEAP_MULTIVERSION
std::uint8_t any_bit(const std::uint8_t* values, std::size_t count) {
  std::uint8_t any = 0;
  for (std::size_t i = 0; i < count; ++i) any |= values[i];
  return any;
}

bool fit(const std::vector<std::uint8_t>& values, int bits) {
  return (any_bit(values.data(), values.size()) >> bits) == 0;
}

}  // namespace

std::int64_t GroupLayout::groups(std::int64_t cols) const {
  return group == 0 ? 1 : (cols + group - 1) / group;
}

bool exact_in(float value, DType type) {
  if (type == DType::f16) return fp16_to_float(float_to_fp16(value)) == value;
  if (type == DType::bf16) return bf16_to_float(float_to_bf16(value)) == value;
  return type == DType::f32;
}

void check_invariants(const QuantizedTensor& tensor) {
  const GroupLayout& layout = tensor.layout;
  NEAP_CHECK(layout.bits >= 1 && layout.bits <= 8 && layout.group >= 0);
  NEAP_CHECK(tensor.rows > 0 && tensor.cols > 0);
  const auto values = static_cast<std::size_t>(tensor.rows * tensor.cols);
  const auto groups = static_cast<std::size_t>(tensor.rows * layout.groups(tensor.cols));
  NEAP_CHECK(tensor.codes.size() == values && tensor.scales.size() == groups);
  NEAP_CHECK(tensor.zeros.size() == (layout.symmetric ? 0 : groups));
  NEAP_CHECK(fit(tensor.codes, layout.bits) && fit(tensor.zeros, layout.bits));
  for (const float scale : tensor.scales) {
    NEAP_CHECK(std::isfinite(scale) && scale > 0 && exact_in(scale, layout.scale_type));
  }
}

void dequantize(const QuantizedTensor& tensor, std::int64_t first, std::int64_t count,
                MatrixView<float> out) {
  NEAP_CHECK(first >= 0 && count >= 0 && first + count <= tensor.rows);
  NEAP_CHECK(out.rows == static_cast<std::size_t>(count) &&
             out.cols == static_cast<std::size_t>(tensor.cols));
  const GroupLayout& layout = tensor.layout;
  const std::int64_t groups = layout.groups(tensor.cols);
  const std::int64_t width = layout.group == 0 ? tensor.cols : layout.group;
  const int middle = 1 << (layout.bits - 1);
  const std::int64_t tile =
      std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, tensor.cols));
  parallel_for(static_cast<std::size_t>((count + tile - 1) / tile), [&](std::size_t t) {
    const std::int64_t begin = static_cast<std::int64_t>(t) * tile;
    for (std::int64_t r = begin; r < std::min(begin + tile, count); ++r) {
      const std::uint8_t* codes = tensor.codes.data() + (first + r) * tensor.cols;
      float* row = out.row(static_cast<std::size_t>(r));
      for (std::int64_t g = 0; g < groups; ++g) {
        const auto at = static_cast<std::size_t>((first + r) * groups + g);
        const std::int64_t from = g * width, to = std::min(from + width, tensor.cols);
        dequantize_run(codes + from, static_cast<std::size_t>(to - from), tensor.scales[at],
                       layout.symmetric ? middle : tensor.zeros[at], row + from);
      }
    }
  });
}

double bits_per_weight(const GroupLayout& layout, std::int64_t rows, std::int64_t cols) {
  const std::int64_t groups = layout.groups(cols);
  const auto scale_bits = static_cast<std::int64_t>(8 * block_bytes(layout.scale_type));
  std::int64_t bits = 32 * rows * packed_words(cols, layout.bits) + rows * groups * scale_bits;
  if (!layout.symmetric) bits += 32 * packed_words(rows, layout.bits) * groups;
  return static_cast<double>(bits) / (static_cast<double>(rows) * static_cast<double>(cols));
}

}  // namespace neap
