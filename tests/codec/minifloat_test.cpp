#include "codec/minifloat.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace neap {
namespace {

// From the specification's words: (-1)^s 2^(e-7) 1.mmm, or 2^-6 0.mmm where e is 0.
double by_the_book(int bits) {
  const int exponent = (bits >> 3) & 15, mantissa = bits & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return bits & 0x80 ? -magnitude : magnitude;
}

TEST(E4m3, EveryCodeHasTheSpecifiedValue) {
  for (int bits = 0; bits < 256; ++bits) {
    const float value = e4m3_to_float(static_cast<E4m3>(bits));
    if ((bits & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else {
      EXPECT_EQ(value, by_the_book(bits)) << bits;
      EXPECT_EQ(std::signbit(value), (bits & 0x80) != 0) << bits;
    }
  }
}

TEST(E4m3, EveryNumberRoundTrips) {
  for (int bits = 0; bits < 256; ++bits) {
    EXPECT_EQ(float_to_e4m3(e4m3_to_float(static_cast<E4m3>(bits))), bits);
  }
}

TEST(E4m3, EveryBfloatRoundsToItsNearestNumberTiesToEven) {
  for (std::uint32_t high = 0; high < 0x7f80; ++high) {
    const float x = std::bit_cast<float>(high << 16);
    int best = 0;
    for (int bits = 1; bits < 0x7f; ++bits) {
      const double now = std::abs(by_the_book(bits) - x), least = std::abs(by_the_book(best) - x);
      if (now < least || (now == least && bits % 2 == 0)) best = bits;
    }
    ASSERT_EQ(float_to_e4m3(x), best) << x;
    ASSERT_EQ(float_to_e4m3(-x), best | 0x80) << x;
  }
}

TEST(E4m3, TheSmallestStepDecidesBesideATie) {
  for (int bits = 0; bits < 0x7e; ++bits) {
    const auto middle = static_cast<float>((by_the_book(bits) + by_the_book(bits + 1)) / 2);
    EXPECT_EQ(float_to_e4m3(middle), bits + bits % 2);
    EXPECT_EQ(float_to_e4m3(std::nextafter(middle, 0.0f)), bits);
    EXPECT_EQ(float_to_e4m3(std::nextafter(middle, 1000.0f)), bits + 1);
  }
}

TEST(E4m3, WhatIsTooLargeSaturatesAndNaNStays) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(float_to_e4m3(449), kE4m3Largest);
  EXPECT_EQ(float_to_e4m3(1e30f), kE4m3Largest);
  EXPECT_EQ(float_to_e4m3(kInfinity), kE4m3Largest);
  EXPECT_EQ(float_to_e4m3(-kInfinity), kE4m3Largest | kE4m3Sign);
  EXPECT_EQ(float_to_e4m3(std::numeric_limits<float>::quiet_NaN()) & 0x7f, kE4m3NaN);
}

TEST(E2m1, SixteenPatternsHaveTheValuesOfTheSpecification) {
  const float magnitudes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (unsigned bits = 0; bits < 8; ++bits) {
    EXPECT_EQ(e2m1_to_float(static_cast<E2m1>(bits)), magnitudes[bits]);
    EXPECT_EQ(e2m1_to_float(static_cast<E2m1>(bits | kE2m1Sign)), -magnitudes[bits]);
  }
}

// Judge: a search over all magnitudes, ties to the even pattern.
TEST(E2m1, RoundsToNearestAndTiesToEven) {
  for (int i = -2048; i <= 2048; ++i) {
    for (const float value : {static_cast<float>(i) / 256, std::nextafter(static_cast<float>(i) / 256, 100.0f)}) {
      unsigned best = 0;
      for (unsigned bits = 1; bits < 8; ++bits) {
        const float there = std::abs(std::abs(value) - e2m1_to_float(static_cast<E2m1>(bits)));
        const float here = std::abs(std::abs(value) - e2m1_to_float(static_cast<E2m1>(best)));
        if (there < here || (there == here && bits % 2 == 0)) best = bits;
      }
      const E2m1 expected = static_cast<E2m1>(value < 0 && best > 0 ? best | kE2m1Sign : best);
      EXPECT_EQ(float_to_e2m1(value), expected) << value;
      EXPECT_EQ(round_to_e2m1(std::abs(value)), e2m1_to_float(static_cast<E2m1>(best))) << value;
    }
  }
}

TEST(E8m0, IsThePowerOfTwoThatItSays) {
  for (int bits = 0; bits < 255; ++bits) EXPECT_EQ(e8m0_to_float(static_cast<E8m0>(bits)), std::ldexp(1.0f, bits - 127));
  EXPECT_TRUE(std::isnan(e8m0_to_float(kE8m0NaN)));
}

}  // namespace
}  // namespace neap
