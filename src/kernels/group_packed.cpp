#include "kernels/group_packed.h"

#include <algorithm>
#include <cstring>

#include "base/half.h"
#include "base/parallel.h"

namespace neap {
namespace {

std::size_t scale_bytes(ScaleType type) { return type == ScaleType::f32 ? 4 : 2; }

std::size_t to_vectors(std::size_t bytes) {
  return (bytes + kVectorBytes - 1) / kVectorBytes * kVectorBytes;
}

ScaleType scale_type_of(DType type) {
  return type == DType::bf16  ? ScaleType::bf16
         : type == DType::f16 ? ScaleType::f16
                              : ScaleType::f32;
}

// Columns of int8 activations that share a scale: as many as fit the groups, at most 128.
std::size_t block_of(const GroupLayout& layout) {
  for (const std::int64_t block : {128, 64})
    if (layout.group % block == 0) return static_cast<std::size_t>(block);
  return kChunk;
}

GroupShape make_shape(const GroupLayout& layout, std::int64_t cols) {
  const auto columns = static_cast<std::size_t>(cols);
  GroupShape shape{};
  shape.bits = layout.bits;
  shape.block = block_of(layout);
  shape.blocks = (columns + shape.block - 1) / shape.block;
  shape.chunks = (columns + kChunk - 1) / kChunk;
  shape.blocks_per_group =
      layout.group == 0 ? shape.blocks : static_cast<std::size_t>(layout.group) / shape.block;
  shape.scale_type = scale_type_of(layout.scale_type);
  shape.zeros = !layout.symmetric;
  const auto groups = static_cast<std::size_t>(layout.groups(cols));
  shape.zero_bytes_at = groups * kPanelRows * scale_bytes(shape.scale_type);
  shape.code_bytes_at = to_vectors(shape.zero_bytes_at + (shape.zeros ? groups * kPanelRows : 0));
  shape.panel_bytes =
      shape.code_bytes_at + shape.chunks * static_cast<std::size_t>(layout.bits) * kVectorBytes;
  return shape;
}

void write_scale(ScaleType type, float scale, std::uint8_t* to) {
  if (type == ScaleType::f32) {
    std::memcpy(to, &scale, 4);
    return;
  }
  const std::uint16_t half = type == ScaleType::bf16 ? float_to_bf16(scale) : float_to_fp16(scale);
  std::memcpy(to, &half, 2);
}

// Adds the codes of four columns, the g-th of a chunk, to its vectors, seen from the row's lane.
void write_codes(int bits, const std::uint8_t* codes, std::size_t count, std::size_t g,
                 std::uint8_t* lane) {
  std::uint32_t four = 0;
  std::memcpy(&four, codes, std::min<std::size_t>(count, 4));
  const auto add = [&](std::size_t vector, std::uint32_t bytes) {
    std::uint32_t all;
    std::memcpy(&all, lane + vector * kVectorBytes, 4);
    all |= bytes;
    std::memcpy(lane + vector * kVectorBytes, &all, 4);
  };
  if (bits == 8) return add(g, four);
  if (bits == 4) return add(g / 2, four << (g % 2 * 4));
  add(g / 4, (four & 0x03030303u) << (g % 4 * 2));
  if (bits == 3) add(2, (four >> 2 & 0x01010101u) << g);
}

}  // namespace

bool PackedGroupInt::fits(const GroupLayout& layout) {
  const bool bits = layout.bits == 2 || layout.bits == 3 || layout.bits == 4 || layout.bits == 8;
  return bits && layout.group % static_cast<std::int64_t>(kChunk) == 0;
}

PackedGroupInt::PackedGroupInt(const QuantizedTensor& tensor)
    : rows_(static_cast<std::size_t>(tensor.rows)),
      cols_(static_cast<std::size_t>(tensor.cols)),
      layout_(tensor.layout),
      shape_(make_shape(tensor.layout, tensor.cols)),
      memory_(bytes()) {
  NEAP_CHECK(fits(layout_));
  parallel_for(panels(), [&](std::size_t index) { pack(tensor, index); });
}

void PackedGroupInt::pack(const QuantizedTensor& tensor, std::size_t panel) {
  const auto groups = static_cast<std::size_t>(layout_.groups(tensor.cols));
  const std::size_t size = scale_bytes(shape_.scale_type);
  const auto bits = static_cast<std::size_t>(shape_.bits);
  std::uint8_t* to = data() + panel * shape_.panel_bytes;
  for (std::size_t lane = 0; lane < std::min(kPanelRows, rows_ - panel * kPanelRows); ++lane) {
    const std::size_t row = panel * kPanelRows + lane;
    for (std::size_t g = 0; g < groups; ++g) {
      const std::size_t at = g * kPanelRows + lane;
      write_scale(shape_.scale_type, tensor.scales[row * groups + g], to + at * size);
      if (shape_.zeros) to[shape_.zero_bytes_at + at] = tensor.zeros[row * groups + g];
    }
    std::uint8_t* codes = to + shape_.code_bytes_at + 4 * lane;
    for (std::size_t c = 0; c < cols_; c += 4) {
      write_codes(shape_.bits, tensor.codes.data() + row * cols_ + c, cols_ - c, c % kChunk / 4,
                  codes + c / kChunk * bits * kVectorBytes);
    }
  }
}

}  // namespace neap
