// The inner loops of kernels/lobcq_matmul.h, once per level of instructions. All levels give the
// same bits: those of multiply() in codec/lobcq.h. Seen by files that are compiled for one level
// alone: nothing here may become code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/isa.h"

namespace neap {

inline constexpr std::size_t kPanelRows = 16;
inline constexpr int kEntryOffset = 32;  // entry + 32 is in [1, 63]: a byte without a sign
inline constexpr std::size_t kVectorBytes = 64;

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

// Encoded activations, a token a row.
struct LobcqTokens {
  const std::int8_t* entries;  // `stride` bytes a token, 0 past the last column
  std::size_t stride;          // arrays * block_array
  const float* scales;         // (tokens, arrays)
  const std::int32_t* starts;  // (tokens, arrays): -32 times the sum of the array's entries
  const float* tensor_scales;  // (tokens), times the weights'
};

// Where a panel's or a pair of panels' results go: y(t, r) = result + bias[r].
struct KernelOutput {
  float* y;
  std::size_t stride;
  std::size_t rows;   // that exist, of the panel or pair
  const float* bias;  // null: none
};

struct LobcqKernels {
  Isa isa;
  // A panel's entries + 32 and scales, for many(): vector k of four columns goes to entries +
  // k * 2 * 64, the scales of array a to scales + a * 2 * 16.
  void (*decode)(const LobcqShape& shape, const std::uint8_t* panel, std::uint8_t* entries,
                 float* scales);
  // A pair of decoded panels against any number of tokens.
  void (*many)(const LobcqShape& shape, const std::uint8_t* entries, const float* scales,
               const LobcqTokens& x, std::size_t tokens, const KernelOutput& out);
  // One panel against 1 to kFewTokens tokens, decoded in registers.
  void (*few)(const LobcqShape& shape, const std::uint8_t* panel, const LobcqTokens& x,
              std::size_t tokens, const KernelOutput& out);
};
inline constexpr std::size_t kFewTokens = 4;

// The fastest kernels that need no more than `isa`.
const LobcqKernels& lobcq_kernels(Isa isa);

}  // namespace neap
