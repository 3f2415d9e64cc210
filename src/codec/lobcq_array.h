// One block array at one given scale: the inner loops of codec/lobcq_encode.h, a function per level of
// instructions behind one dispatch. All levels give the same integers.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "neap/codebooks.h"

namespace neap {

// The threshold between two entries a < b of a codebook is at n = 32 (a + b), so that the code of n
// depends on m = floor((n - 1) / 32) alone; beyond [-64, 63] nothing changes any more. 128 bytes, looked up
// by m modulo 128, decide for a codebook.
struct LobcqTables {
  struct Table {
    std::array<std::int8_t, 128> entry;
    std::array<std::uint8_t, 128> code;
  };
  int block = 8;
  std::vector<Table> tables;
};
LobcqTables make_tables(const LobcqLayout& layout, const Codebooks& codebooks);

// n of `count` finite values: rint(clamp(x * ratio, -4095, 4095)); ratio: 64 / d.
void fixed_points(const float* x, int count, float ratio, std::int16_t* points);

// Sums over the array of (n - 64 entry)^2, each block with its best codebook; mirrored: for -n.
struct ArrayErrors {
  std::int64_t plain, mirrored;
};
// x: count finite values, count <= 128; ratio: 64 / d.
ArrayErrors array_errors(const LobcqTables& tables, const float* x, int count, float ratio);

// Codes (one a value) and selectors (one a block). False, and nothing that can be used, if every n is 0.
bool encode_array(const LobcqTables& tables, const float* x, int count, float ratio, std::uint8_t* codes,
                  std::uint8_t* selectors);

}  // namespace neap
