#include "kernels/group_packed.h"

#include <algorithm>
#include <cstring>

#include "base/half.h"
#include "base/parallel.h"
#include "kernels/with_counts.h"

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

// A row's codes of a chunk, of each four columns a word, to the words of its lane.
template <int bits>
void pack_words(const std::uint32_t (&fours)[kChunk / 4], std::uint32_t (&words)[bits]) {
  for (std::size_t i = 0; i < bits; ++i) {
    if constexpr (bits == 8) words[i] = fours[i];
    if constexpr (bits == 4) words[i] = fours[2 * i] | fours[2 * i + 1] << 4;
    if constexpr (bits == 3) words[i] = fours[2 * i] | fours[2 * i + 1] << 3;
    if constexpr (bits == 2) {
      words[i] = fours[4 * i] | fours[4 * i + 1] << 2 | fours[4 * i + 2] << 4 | fours[4 * i + 3] << 6;
    }
  }
  if constexpr (bits == 3) {
    words[0] |= (fours[6] & 0x06060606u) << 5;
    words[1] |= (fours[7] & 0x06060606u) << 5;
    words[2] |= (fours[6] & 0x01010101u) << 6 | (fours[7] & 0x01010101u) << 7;
  }
}

// A row's codes to its lane of a panel.
template <int bits>
void pack_row(const GroupShape& shape, const std::uint8_t* codes, std::size_t cols, std::uint8_t* lane) {
  for (std::size_t chunk = 0; chunk < shape.chunks; ++chunk) {
    const std::size_t left = cols - chunk * kChunk;
    std::uint32_t fours[kChunk / 4] = {}, words[bits];
    if (left >= kChunk) {
      std::memcpy(fours, codes + chunk * kChunk, kChunk);
    } else {
      std::memcpy(fours, codes + chunk * kChunk, left);
    }
    pack_words<bits>(fours, words);
    std::uint8_t* to = lane + codes_at(shape, chunk);
    for (std::size_t i = 0; i < bits; ++i) std::memcpy(to + i * kVectorBytes, &words[i], 4);
  }
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
    with_bits(shape_.bits, [&]<int bits>() {
      pack_row<bits>(shape_, tensor.codes.data() + row * cols_, cols_, to + 4 * lane);
    });
  }
}

}  // namespace neap
