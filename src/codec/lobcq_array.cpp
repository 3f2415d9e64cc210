#include "codec/lobcq_array.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "neap/check.h"

namespace neap {
namespace {

constexpr int kLargestPoint = 4095;
constexpr std::int32_t kWorst = INT32_MAX;  // a block's error is below 8 (4095 + 64 * 31)^2 < 2^29

using Points = std::array<std::int16_t, kLongestArray>;

Points points_of(const float* x, int count, float ratio) {
  NEAP_CHECK(count <= kLongestArray);
  Points points{};
  fixed_points(x, count, ratio, points.data());
  return points;
}

std::size_t place_of(std::int32_t n) {
  return static_cast<std::size_t>(std::clamp((n - 1) >> 5, -64, 63) & 127);
}

std::int32_t block_error(const LobcqTables::Table& table, const std::int16_t* n, int count) {
  std::int32_t error = 0;
  for (int i = 0; i < count; ++i) {
    const std::int32_t e = n[i] - 64 * table.entry[place_of(n[i])];
    error += e * e;
  }
  return error;
}

struct BlockChoice {
  std::int32_t error = kWorst;
  std::size_t selector = 0;
};

BlockChoice choose(const LobcqTables& tables, const std::int16_t* n, int count) {
  BlockChoice best;
  for (std::size_t c = 0; c < tables.tables.size(); ++c) {
    const std::int32_t error = block_error(tables.tables[c], n, count);
    if (error < best.error) best = {error, c};
  }
  return best;
}

std::int64_t total_error(const LobcqTables& tables, const Points& points, int count) {
  std::int64_t sum = 0;
  for (int first = 0; first < count; first += tables.block) {
    sum += choose(tables, points.data() + first, std::min(tables.block, count - first)).error;
  }
  return sum;
}

// The literal rule; everything else looks it up.
std::uint8_t nearest_code(const Codebook& codebook, int n) {
  int best = 0;
  for (int i = 1; i < kCodebookEntries; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (std::abs(n - 64 * codebook[at]) <
        std::abs(n - 64 * codebook[static_cast<std::size_t>(best)]))
      best = i;
  }
  return static_cast<std::uint8_t>(best);
}

float largest(const float* x, int count) {
  // Bit patterns of magnitudes order as the magnitudes do; infinity and NaN are the largest.
  const auto magnitude = [](float v) { return std::bit_cast<std::uint32_t>(v) & 0x7fffffffu; };
  float found = x[0];
  for (int i = 1; i < count; ++i) {
    if (magnitude(x[i]) > magnitude(found)) found = x[i];
  }
  return found;
}

ArrayErrors errors(const LobcqTables& tables, const float* x, int count, float ratio) {
  Points points = points_of(x, count, ratio);
  const std::int64_t plain = total_error(tables, points, count);
  for (std::int16_t& n : points) n = static_cast<std::int16_t>(-n);
  return {plain, total_error(tables, points, count)};
}

// Calls decide(block, first, width, selector) for every block. False if every n is 0.
template <class Decide>
bool for_each_block(const LobcqTables& tables, const Points& points, int count,
                    const Decide& decide) {
  if (std::all_of(points.begin(), points.end(), [](std::int16_t n) { return n == 0; }))
    return false;
  for (int first = 0; first < count; first += tables.block) {
    const int width = std::min(tables.block, count - first);
    decide(first / tables.block, first, width,
           choose(tables, points.data() + first, width).selector);
  }
  return true;
}

bool encode(const LobcqTables& tables, const float* x, int count, float ratio, std::uint8_t* codes,
            std::uint8_t* selectors) {
  const Points points = points_of(x, count, ratio);
  return for_each_block(
      tables, points, count, [&](int block, int first, int width, std::size_t selector) {
        selectors[block] = static_cast<std::uint8_t>(selector);
        for (int i = first; i < first + width; ++i) {
          codes[i] = tables.tables[selector].code[place_of(points[static_cast<std::size_t>(i)])];
        }
      });
}

bool entries(const LobcqTables& tables, const float* x, int count, float ratio, std::int8_t* out) {
  const Points points = points_of(x, count, ratio);
  return for_each_block(
      tables, points, count, [&](int, int first, int width, std::size_t selector) {
        for (int i = first; i < first + width; ++i) {
          out[i] = tables.tables[selector].entry[place_of(points[static_cast<std::size_t>(i)])];
        }
      });
}

constexpr LobcqLevel kScalar = {Isa::scalar, largest, errors, encode, entries};

}  // namespace

#ifdef NEAP_LOBCQ_AVX512
extern const LobcqLevel kLobcqAvx512;  // lobcq_array_avx512.cpp
#endif

const LobcqLevel& lobcq_level([[maybe_unused]] Isa isa) {
#ifdef NEAP_LOBCQ_AVX512
  if (isa >= Isa::avx512) return kLobcqAvx512;
#endif
  return kScalar;
}

LobcqTables make_tables(const LobcqLayout& layout, const Codebooks& codebooks) {
  LobcqTables tables{.block = layout.block, .tables = {}};
  for (const Codebook& codebook : codebooks) {
    LobcqTables::Table& table = tables.tables.emplace_back();
    for (int m = -64; m < 64; ++m) {
      const std::uint8_t code = nearest_code(codebook, 32 * m + 32);  // the last n of this m
      table.code[static_cast<std::size_t>(m & 127)] = code;
      table.entry[static_cast<std::size_t>(m & 127)] = codebook[code];
    }
  }
  return tables;
}

void fixed_points(const float* x, int count, float ratio, std::int16_t* points) {
  constexpr auto kLimit = static_cast<float>(kLargestPoint);
  constexpr float kInteger = 0x1.8p23f;  // adding it leaves no room for a fraction: to nearest even
  for (int i = 0; i < count; ++i) {
    const float scaled = std::clamp(x[i] * ratio, -kLimit, kLimit);
    points[i] = static_cast<std::int16_t>((scaled + kInteger) - kInteger);
  }
}

}  // namespace neap
