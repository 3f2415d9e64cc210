// The inner loops of kernels/group_matmul.h, once per level of instructions, in the arithmetic of
// kernels/integer_level.h: all levels give the same bits. Seen by files that are compiled for one
// level alone: nothing here may become code.
#pragma once

#include "kernels/integer_level.h"

namespace neap {

inline constexpr std::size_t kChunk = 32;  // columns that are packed together

enum class ScaleType { bf16, f16, f32 };

// What all panels of a packed tensor have in common (kernels/group_packed.h).
struct GroupShape {
  int bits;                      // 2, 3, 4 or 8
  std::size_t blocks, block;     // of int8 activations in a row; columns of one: 32, 64 or 128
  std::size_t chunks;            // of a row
  std::size_t blocks_per_group;  // as many as `blocks` for whole rows
  ScaleType scale_type;
  bool zeros;                     // of each group; else 2^(bits - 1)
  std::size_t groups_per_stripe;  // whose scales and zeros stand together, before their codes
  std::size_t zeros_at, codes_at, stripe_bytes;  // in a stripe
  std::size_t panel_bytes;
};

// Where in a panel scales, zeros and codes lie. Static: every level's file has its own.
static inline std::size_t scale_bytes(const GroupShape& shape) {
  return shape.scale_type == ScaleType::f32 ? 4 : 2;
}
static inline std::size_t scales_at(const GroupShape& shape, std::size_t group) {
  const std::size_t stripe = group / shape.groups_per_stripe;
  return stripe * shape.stripe_bytes +
         (group - stripe * shape.groups_per_stripe) * kPanelRows * scale_bytes(shape);
}
static inline std::size_t zeros_at(const GroupShape& shape, std::size_t group) {
  const std::size_t stripe = group / shape.groups_per_stripe;
  return stripe * shape.stripe_bytes + shape.zeros_at +
         (group - stripe * shape.groups_per_stripe) * kPanelRows;
}
static inline std::size_t codes_at(const GroupShape& shape, std::size_t chunk) {
  const std::size_t bytes = static_cast<std::size_t>(shape.bits) * kVectorBytes;
  const std::size_t in_stripe = (shape.stripe_bytes - shape.codes_at) / bytes;
  return chunk / in_stripe * shape.stripe_bytes + shape.codes_at + chunk % in_stripe * bytes;
}

struct GroupKernels {
  Isa isa;
  // Blocks of a panel for an IntegerPair, of which it is a half: four columns' vector k of them goes
  // to values + k * 2 * 64, scales and (if the shape has them) zeros of their block b to b * 32.
  void (*decode)(const GroupShape& shape, const std::uint8_t* panel, BlockRange range,
                 std::uint8_t* values, float* scales, float* zeros);
  // One panel against 1 to kFewTokens tokens, decoded in registers.
  void (*few)(const GroupShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
              std::size_t tokens, const KernelOutput& out);
};

// The fastest kernels that need no more than `isa`.
const GroupKernels& group_kernels(Isa isa);

}  // namespace neap
