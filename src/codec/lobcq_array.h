// One block array at one given scale: the inner loops of codec/lobcq_encode.h, once per level of
// instructions. The scalar level is the specification; every other gives the same integers.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/isa.h"
#include "neap/codebooks.h"

namespace neap {

inline constexpr int kLongestArray = 128;

// The threshold between two entries a < b of a codebook is at n = 32 (a + b), so that the code of n
// depends on m = floor((n - 1) / 32) alone; beyond [-64, 63] nothing changes any more. 128 bytes,
// looked up by m modulo 128, decide for a codebook.
struct LobcqTables {
  struct Table {
    std::array<std::int8_t, 128> entry;
    std::array<std::uint8_t, 128> code;
  };
  int block = 8;
  std::vector<Table> tables;
};
LobcqTables make_tables(const LobcqLayout& layout, const Codebooks& codebooks);

// Sums over an array of (n - 64 entry)^2, each block with its best codebook; mirrored: for -n.
struct ArrayErrors {
  std::int64_t plain, mirrored;
};

// x: count values, 0 < count <= 128, finite but for `largest`; ratio: 64 / d.
struct LobcqLevel {
  Isa isa;
  // The x of largest magnitude, the first of equal ones. NaN or infinity if there is any.
  float (*largest)(const float* x, int count);
  ArrayErrors (*errors)(const LobcqTables& tables, const float* x, int count, float ratio);
  // Codes (one a value) and selectors (one a block). False, and nothing that can be used, if every
  // n is 0.
  bool (*encode)(const LobcqTables& tables, const float* x, int count, float ratio,
                 std::uint8_t* codes, std::uint8_t* selectors);
  // The same decisions, as the entries that they name.
  bool (*entries)(const LobcqTables& tables, const float* x, int count, float ratio,
                  std::int8_t* entries);
};

// The fastest of those that need no more than `isa`.
const LobcqLevel& lobcq_level(Isa isa);

// n of `count` finite values: rint(clamp(x * ratio, -4095, 4095)).
void fixed_points(const float* x, int count, float ratio, std::int16_t* points);

}  // namespace neap
