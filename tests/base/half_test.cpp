#include "base/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

namespace neap {
namespace {

// Compilers know IEEE half precision as _Float16: an implementation that is not ours.
TEST(Fp16, EveryPatternWidensAsTheCompilersOwnHalf) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<Fp16>(bits);
    const float expected = static_cast<float>(std::bit_cast<_Float16>(half));
    const float found = fp16_to_float(half);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(found)) << bits;
    } else {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(found), std::bit_cast<std::uint32_t>(expected)) << bits;
    }
  }
}

TEST(Fp16, NarrowingRoundsAsTheCompilersOwnHalf) {
  for (std::uint64_t u = 0; u < 0x100000000u; u += 4093) {  // a prime step meets every exponent
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(u));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(fp16_to_float(float_to_fp16(value))));
      continue;
    }
    const auto expected = std::bit_cast<Fp16>(static_cast<_Float16>(value));
    ASSERT_EQ(float_to_fp16(value), expected) << value;
  }
}

TEST(Bf16, NarrowingPicksTheNearestAndTheEvenOnTies) {
  for (std::uint64_t u = 0; u < 0x100000000u; u += 4093) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(u));
    const float found = bf16_to_float(float_to_bf16(value));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(found));
      continue;
    }
    const auto below_bits = static_cast<Bf16>(u >> 16);
    const double below = bf16_to_float(below_bits), above = bf16_to_float(below_bits + 1);
    if (!std::isfinite(below) || !std::isfinite(above)) continue;
    const double to_below = std::abs(value - below), to_above = std::abs(above - value);
    const bool even_is_below = (below_bits & 1) == 0;
    const double expected = to_below < to_above || (to_below == to_above && even_is_below) ? below : above;
    ASSERT_EQ(found, expected) << value;
  }
}

TEST(Half, BulkFormsGiveTheBitsOfTheScalarOnes) {
  std::vector<float> values;
  for (std::uint64_t u = 0; u < 0x100000000u; u += 65521) {
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(u)));
  }
  std::vector<std::uint16_t> half(values.size()), brain(values.size());
  float_to_fp16(values.data(), half.data(), values.size());
  float_to_bf16(values.data(), brain.data(), values.size());
  std::vector<float> wide(values.size());
  fp16_to_float(half.data(), wide.data(), half.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(half[i], float_to_fp16(values[i])) << values[i];
    ASSERT_EQ(brain[i], float_to_bf16(values[i])) << values[i];
    ASSERT_EQ(std::bit_cast<std::uint32_t>(wide[i]), std::bit_cast<std::uint32_t>(fp16_to_float(half[i])));
  }
}

}  // namespace
}  // namespace neap
