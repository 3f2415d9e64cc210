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
  bool zeros;                                // of each group; else 2^(bits - 1)
  std::size_t zero_bytes_at, code_bytes_at;  // in a panel, whose scales come first
  std::size_t panel_bytes;
};

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
