// The inner loops of kernels/fp4_matmul.h, once per level of instructions, in the arithmetic of
// kernels/integer_level.h: all levels give the same bits. Seen by files that are compiled for one
// level alone: nothing here may become code.
#pragma once

#include "kernels/integer_level.h"

namespace neap {

// By E2M1 code, twice the number, + 12: a byte without a sign.
inline constexpr int kFp4Offset = 12;
alignas(16) inline constexpr std::uint8_t kFp4Values[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                                            12, 11, 10, 9,  8,  6,  4,  0};

inline constexpr std::size_t kStripeGroups = 4;  // whose scales fill a vector

// What all panels of a packed tensor have in common (kernels/fp4_packed.h).
struct Fp4Shape {
  std::size_t groups, group;  // of a row; columns of one: 16 or 32
  std::size_t stripe_bytes;   // of four groups
  std::size_t panel_bytes;
  bool power;          // scales are E8M0: powers of two
  float global_scale;  // by which E4M3 scales are divided
};

// Where in a panel a group's codes lie. Static: every level's file has its own.
static inline std::size_t codes_at(const Fp4Shape& shape, std::size_t group) {
  return group / kStripeGroups * shape.stripe_bytes + kVectorBytes +
         group % kStripeGroups * (shape.group / 8) * kVectorBytes;
}

struct Fp4Kernels {
  Isa isa;
  // Groups of a panel for an IntegerPair, of which it is a half: four columns' vector k of them goes
  // to values + k * 2 * 64, half of the scales of their group g to scales + g * 32.
  void (*decode)(const Fp4Shape& shape, const std::uint8_t* panel, BlockRange range,
                 std::uint8_t* values, float* scales);
  // One panel against 1 to kFewTokens tokens, decoded in registers.
  void (*few)(const Fp4Shape& shape, const std::uint8_t* panel, const IntegerTokens& x,
              std::size_t tokens, const KernelOutput& out);
};

// The fastest kernels that need no more than `isa`.
const Fp4Kernels& fp4_kernels(Isa isa);

}  // namespace neap
