#include "kernels/group_packed.h"

#include <algorithm>
#include <cstring>

#include "base/half.h"
#include "base/parallel.h"

namespace neap {
namespace {

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
  shape.groups_per_stripe = shape.zeros ? 4 : kVectorBytes / (kPanelRows * scale_bytes(shape));
  const std::size_t per_stripe = shape.groups_per_stripe * shape.blocks_per_group * shape.block / kChunk;
  const std::size_t chunk_bytes = static_cast<std::size_t>(layout.bits) * kVectorBytes;
  shape.zeros_at = shape.groups_per_stripe * kPanelRows * scale_bytes(shape);
  shape.codes_at = shape.zeros_at + (shape.zeros ? shape.groups_per_stripe * kPanelRows : 0);
  shape.stripe_bytes = shape.codes_at + per_stripe * chunk_bytes;
  shape.panel_bytes = (shape.chunks + per_stripe - 1) / per_stripe * shape.codes_at +
                      shape.chunks * chunk_bytes;
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
  if (bits == 2) return add(g / 4, four << (g % 4 * 2));
  if (g < 6) return add(g / 2, four << (g % 2 * 3));
  add(g - 6, (four & 0x06060606u) << 5);
  add(2, (four & 0x01010101u) << g);
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
  std::uint8_t* to = data() + panel * shape_.panel_bytes;
  for (std::size_t lane = 0; lane < std::min(kPanelRows, rows_ - panel * kPanelRows); ++lane) {
    const std::size_t row = panel * kPanelRows + lane;
    for (std::size_t g = 0; g < groups; ++g) {
      write_scale(shape_.scale_type, tensor.scales[row * groups + g],
                  to + scales_at(shape_, g) + lane * scale_bytes(shape_));
      if (shape_.zeros) to[zeros_at(shape_, g) + lane] = tensor.zeros[row * groups + g];
    }
    for (std::size_t chunk = 0; chunk < shape_.chunks; ++chunk) {
      std::uint8_t* codes = to + codes_at(shape_, chunk) + 4 * lane;
      const std::size_t first = chunk * kChunk, last = std::min(cols_, first + kChunk);
      for (std::size_t c = first; c < last; c += 4)
        write_codes(shape_.bits, tensor.codes.data() + row * cols_ + c, last - c, (c - first) / 4,
                    codes);
    }
  }
}

}  // namespace neap
