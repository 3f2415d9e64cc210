// The inner loops of kernels/lobcq_matmul.h, once per level of instructions, in the arithmetic of
// kernels/integer_level.h: that of multiply() in codec/lobcq.h. Seen by files that are compiled for
// one level alone: nothing here may become code.
#pragma once

#include "kernels/integer_level.h"

namespace neap {

inline constexpr int kEntryOffset = 32;  // entry + 32 is in [1, 63]: a byte without a sign

// What all panels of a packed tensor have in common (kernels/lobcq_packed.h).
struct LobcqShape {
  std::size_t arrays;       // of a row
  std::size_t block_array;  // columns of one
  std::size_t words;        // header words of one
  std::size_t array_bytes;  // of one, 16 rows: 64 (words + block_array / 8)
  std::size_t codebooks;
  bool usual;  // block arrays of 64, blocks of 8, at most 8 codebooks
  // Entry + 32 by 16 selector + code; for fewer than 16 codebooks repeated, so that bits above the
  // selector do not matter.
  alignas(64) std::uint8_t table[256];
  // Of each group of four columns of an array: which header word holds its selectors, and, for each
  // byte of an even and of an odd lane, at which bit of the pair of lanes they begin, less 4
  // (modulo 64): where vpmultishiftqb finds 16 selector.
  std::uint8_t word[32];
  alignas(8) std::uint8_t shift[32][8];
};

struct LobcqKernels {
  Isa isa;
  // Block arrays of a panel for an IntegerPair, of which it is a half: four columns' vector k of them
  // goes to values + k * 2 * 64, the scales of their array a to scales + a * 32.
  void (*decode)(const LobcqShape& shape, const std::uint8_t* panel, BlockRange range,
                 std::uint8_t* values, float* scales);
  // One panel against 1 to kFewTokens tokens, decoded in registers.
  void (*few)(const LobcqShape& shape, const std::uint8_t* panel, const IntegerTokens& x,
              std::size_t tokens, const KernelOutput& out);
};

// The fastest kernels that need no more than `isa`.
const LobcqKernels& lobcq_kernels(Isa isa);

}  // namespace neap
