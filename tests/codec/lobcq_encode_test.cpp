#include "codec/lobcq_encode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "codec/lobcq_support.h"
#include "support/expect_error.h"

namespace neap {
namespace {

// Values as weights are, rows of very different size, with outliers.
Matrix<float> sample(std::size_t rows, std::size_t cols, std::uint64_t seed) {
  Matrix<float> values = random_matrix(rows, cols, seed);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c) {
      values(r, c) *= std::ldexp(0.02f, static_cast<int>(r % 7)) * (c % 97 == 13 ? 20.0f : 1.0f);
    }
  }
  return values;
}

// Every code and selector of `tensor`, given its scales, against exhaustive search.
void expect_best(const LobcqTensor& tensor, const Codebooks& codebooks,
                 const Matrix<float>& values) {
  const LobcqLayout& layout = tensor.layout;
  const auto cols = static_cast<std::int64_t>(values.cols());
  for (std::int64_t r = 0; r < tensor.rows; ++r) {
    for (std::int64_t first = 0, b = 0; first < cols; first += layout.block, ++b) {
      const float unit = tensor.scale(r, first / layout.block_array);
      if (unit == 0) continue;
      std::vector<int> n;
      for (std::int64_t c = first; c < std::min(cols, first + layout.block); ++c) {
        n.push_back(
            fixed_point(values(static_cast<std::size_t>(r), static_cast<std::size_t>(c)), unit));
      }
      const BlockDecision best = decide_block(codebooks, n);
      ASSERT_EQ(tensor.selectors[static_cast<std::size_t>(r * layout.blocks(cols) + b)],
                best.selector);
      for (std::size_t i = 0; i < n.size(); ++i) {
        ASSERT_EQ(tensor.codes[static_cast<std::size_t>(r * cols + first) + i], best.codes[i]);
      }
    }
  }
}

double squared_error(const LobcqTensor& tensor, const Codebooks& codebooks,
                     const Matrix<float>& values) {
  Matrix<float> decoded(values.rows(), values.cols());
  dequantize(tensor, codebooks, 0, tensor.rows, decoded);
  double sum = 0;
  for (std::size_t i = 0; i < values.rows() * values.cols(); ++i) {
    const double e = static_cast<double>(values.data()[i]) - decoded.data()[i];
    sum += e * e;
  }
  return sum;
}

TEST(LobcqEncode, CodesAndSelectorsAreThoseOfExhaustiveSearch) {
  for (const LobcqLayout& layout : every_layout()) {
    const Codebooks codebooks = random_codebooks(layout, 11);
    const Matrix<float> values = sample(3, 275, 12);  // no array, no block divides 275
    const LobcqEncoder encoder(layout, codebooks);
    for (const ScaleChoice choice : {ScaleChoice::maximum, ScaleChoice::search}) {
      for (const float scale : {0x1p-10f, 0.0007f}) {
        const LobcqTensor tensor = encoder.encode(values, scale, choice);
        check_invariants(tensor);
        expect_best(tensor, codebooks, values);
      }
    }
  }
}

TEST(LobcqEncode, EveryFixedPointValueFindsItsNearestEntry) {
  const LobcqLayout layout{128, 2, 2};
  Codebooks codebooks = random_codebooks(layout, 21);
  codebooks[0] = {-31, -31, -31, -30, -9, -9, -1, 0, 0, 1, 2, 4, 4, 31, 31, 31};
  codebooks[1] = codebooks[0];
  const LobcqEncoder encoder(layout, codebooks);
  // Scale 1, tensor scale 1: the first of each pair makes the array's maximum 31, the second is n
  // / 64.
  for (int n = -1984; n <= 1984; ++n) {
    Matrix<float> values(1, 2);
    values(0, 0) = 31;
    values(0, 1) = static_cast<float>(n) / 64;
    const LobcqTensor tensor = encoder.encode(values, 1, ScaleChoice::maximum);
    ASSERT_EQ(tensor.scales[0], float_to_e4m3(1));
    const BlockDecision best = decide_block(codebooks, {1984, n});
    ASSERT_EQ(tensor.selectors[0], 0);  // both codebooks are equally good: the first
    ASSERT_EQ(tensor.codes[0], 13);     // three entries are 31: the first
    ASSERT_EQ(tensor.codes[1], best.codes[1]) << n;
  }
}

TEST(LobcqEncode, SearchNeverLosesToTheMaximum) {
  for (const LobcqLayout& layout : every_layout()) {
    const Codebooks codebooks = random_codebooks(layout, 31);
    const Matrix<float> values = sample(2, 512, 32);
    const LobcqEncoder encoder(layout, codebooks);
    const float scale = tensor_scale_for(largest_magnitude(values));
    const double searched =
        squared_error(encoder.encode(values, scale, ScaleChoice::search), codebooks, values);
    const double plain =
        squared_error(encoder.encode(values, scale, ScaleChoice::maximum), codebooks, values);
    EXPECT_LE(searched,
              plain * (1 + 1e-3));  // it compares errors of values rounded to 1/64 of a unit
  }
}

TEST(LobcqEncode, TheLargestValueDecidesTheSignAndSearchMayTurnItBack) {
  const LobcqLayout layout{16, 8, 2};
  Codebooks codebooks(2);
  codebooks[0] = codebooks[1] = {-4, -2, 0, 2, 4, 6, 8, 10, 12, 15, 18, 21, 24, 27, 29, 31};
  Matrix<float> values(1, 16);
  for (std::size_t c = 0; c < 16; ++c) values(0, c) = static_cast<float>(-codebooks[0][c]) * 2;
  const LobcqEncoder encoder(layout, codebooks);
  for (const ScaleChoice choice : {ScaleChoice::maximum, ScaleChoice::search}) {
    const LobcqTensor tensor = encoder.encode(values, 1, choice);
    EXPECT_EQ(tensor.scale(0, 0), -2);
    EXPECT_EQ(squared_error(tensor, codebooks, values), 0);
  }
  values(0, 15) = 62;  // with -62 before it nothing changes: the first of equal magnitudes counts
  values(0, 14) = -62;
  EXPECT_EQ(encoder.encode(values, 1, ScaleChoice::maximum).scale(0, 0), -2);
  values(0, 0) = 63;  // now the largest is positive, though everything else fits better mirrored
  EXPECT_EQ(encoder.encode(values, 1, ScaleChoice::maximum).scale(0, 0), 2);
  EXPECT_LT(encoder.encode(values, 1, ScaleChoice::search).scale(0, 0), 0);
}

TEST(LobcqEncode, RoundIsEncodeThenDequantize) {
  for (const LobcqLayout& layout : every_layout()) {
    const Codebooks codebooks = random_codebooks(layout, 41);
    Matrix<float> values = sample(5, 171, 42);
    for (std::size_t c = 0; c < 171; ++c) values(2, c) = 0;
    const LobcqEncoder encoder(layout, codebooks);
    for (const ScaleChoice choice : {ScaleChoice::maximum, ScaleChoice::search}) {
      Matrix<float> decoded(5, 171), rounded(5, 171);
      dequantize(encoder.encode(values, 0.0011f, choice), codebooks, 0, 5, decoded);
      encoder.round(values, 0.0011f, choice, rounded);
      for (std::size_t i = 0; i < 5 * 171; ++i) ASSERT_EQ(rounded.data()[i], decoded.data()[i]);
    }
  }
}

TEST(LobcqEncode, ArraysWithoutAValueInReachAreZeros) {
  const LobcqLayout layout{16, 8, 8};
  const LobcqEncoder encoder(layout, random_codebooks(layout, 51));
  Matrix<float> values(1, 48);
  for (std::size_t c = 16; c < 32; ++c) values(0, c) = -0.0f;
  for (std::size_t c = 32; c < 48; ++c) values(0, c) = 0x1p-17f;  // below half of 2^-9 / 64
  values(0, 47) = -0x1p-16f;                                      // half of it: to even, 0
  for (const ScaleChoice choice : {ScaleChoice::maximum, ScaleChoice::search}) {
    const LobcqTensor tensor = encoder.encode(values, 1, choice);
    check_invariants(tensor);
    EXPECT_EQ(tensor.scales, (std::vector<E4m3>{0, 0, 0}));
  }
}

TEST(LobcqEncode, SubnormalScalesServeSmallArraysAndLargeOnesSaturate) {
  const LobcqLayout layout{16, 8, 8};
  const Codebooks codebooks = random_codebooks(layout, 61);
  const LobcqEncoder encoder(layout, codebooks);
  Matrix<float> values = random_matrix(1, 48, 62);
  for (std::size_t c = 0; c < 16; ++c) values(0, c) *= 31 * 0x1p-10f;  // maxima of a few 2^-9
  for (std::size_t c = 16; c < 32; ++c) values(0, c) *= 31 * 1000.0f;  // beyond 448
  for (std::size_t c = 32; c < 48; ++c) values(0, c) *= 1e38f;         // x * ratio overflows
  const LobcqTensor tensor = encoder.encode(values, 1, ScaleChoice::maximum);
  check_invariants(tensor);
  EXPECT_GT(tensor.scales[0] & 0x7f, 0);
  EXPECT_LT(tensor.scales[0] & 0x7f, 8);  // subnormal
  EXPECT_EQ(tensor.scales[1] & 0x7f, kE4m3Largest);
  EXPECT_EQ(tensor.scales[2] & 0x7f, kE4m3Largest);
  expect_best(tensor, codebooks, values);
}

// An outlier costs its own array the small values, and no other array anything.
TEST(LobcqEncode, OutliersOf10000MediansStayInTheirArray) {
  const LobcqLayout layout{64, 8, 8};
  const Codebooks codebooks = random_codebooks(layout, 71);
  const LobcqEncoder encoder(layout, codebooks);
  Matrix<float> values = random_matrix(1, 256, 72);
  const LobcqTensor before = encoder.encode(values, tensor_scale_for(1e4f), ScaleChoice::search);
  values(0, 70) = 1e4f;
  const LobcqTensor after = encoder.encode(values, tensor_scale_for(1e4f), ScaleChoice::search);
  for (std::size_t c = 0; c < 256; ++c) {
    if (c / 64 == 1) continue;
    EXPECT_EQ(after.codes[c], before.codes[c]);
  }
  Matrix<float> decoded(1, 256);
  dequantize(after, codebooks, 0, 1, decoded);
  EXPECT_NEAR(decoded(0, 70), 1e4f, 0.05 * 1e4);
}

TEST(LobcqEncode, NonFiniteValuesAreRefusedWithTheirPlace) {
  const LobcqLayout layout{16, 8, 8};
  const LobcqEncoder encoder(layout, random_codebooks(layout, 81));
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    Matrix<float> values = random_matrix(50, 40, 82), out(50, 40);
    values(37, 33) = bad;
    values(41, 2) = bad;
    EXPECT_ERROR(encoder.encode(values, 1, ScaleChoice::search), ErrorCode::data,
                 "row 37, column 33");
    EXPECT_ERROR(encoder.round(values, 1, ScaleChoice::maximum, out), ErrorCode::data,
                 "row 37, column 33");
    EXPECT_ERROR(largest_magnitude(values), ErrorCode::data, "row 37, column 33");
  }
}

TEST(LobcqEncode, TensorScalesArePowersOfTwoThatJustReach) {
  for (const float value : {1e-12f, 0.1f, 1.0f, 13887.0f, 13888.0f, 13889.0f, 3e9f}) {
    const float scale = tensor_scale_for(value);
    int exponent = 0;
    EXPECT_EQ(std::frexp(scale, &exponent), 0.5f);
    EXPECT_LE(value, 13888.0f * scale);
    EXPECT_GT(value, 13888.0f * (scale / 2));
    EXPECT_EQ(tensor_scale_for(value, 2), 4 * scale);
  }
  EXPECT_EQ(tensor_scale_for(0), 1);
  EXPECT_EQ(tensor_scale_for(1e-30f), kSmallestTensorScale);
  EXPECT_EQ(tensor_scale_for(3e38f), kLargestTensorScale);
}

// On whatever this machine has: every length, odd and short ones included, values in and far out of
// range.
TEST(LobcqEncode, EveryLevelGivesTheBytesOfTheScalarOne) {
  const LobcqLevel& scalar = lobcq_level(Isa::scalar);
  for (const LobcqLayout& layout : every_layout()) {
    const Codebooks codebooks = random_codebooks(layout, 95);
    const LobcqTables tables = make_tables(layout, codebooks);
    for (int count = 1; count <= layout.block_array; count += count < 40 ? 1 : 7) {
      const Matrix<float> values =
          sample(1, static_cast<std::size_t>(count), static_cast<std::uint64_t>(count));
      const float* x = values.row(0);
      for (const float ratio : {0.0f, 700.0f, -64.0f * 31 / 0.06f, 1e7f, 3e38f}) {
        const ArrayErrors want = scalar.errors(tables, x, count, ratio);
        std::vector<std::uint8_t> codes(kLongestArray, 99), selectors(kLongestArray, 99);
        std::vector<std::int8_t> entries(kLongestArray, 99);
        const bool any = scalar.encode(tables, x, count, ratio, codes.data(), selectors.data());
        scalar.entries(tables, x, count, ratio, entries.data());
        for (const Isa isa : supported_isas()) {
          const LobcqLevel* level = &lobcq_level(isa);
          std::vector<std::uint8_t> codes_now(kLongestArray, 99), selectors_now(kLongestArray, 99);
          std::vector<std::int8_t> entries_now(kLongestArray, 99);
          const ArrayErrors found = level->errors(tables, x, count, ratio);
          ASSERT_EQ(found.plain, want.plain) << name_of(isa) << " " << count;
          ASSERT_EQ(found.mirrored, want.mirrored) << name_of(isa) << " " << count;
          ASSERT_EQ(level->encode(tables, x, count, ratio, codes_now.data(), selectors_now.data()),
                    any);
          ASSERT_EQ(level->entries(tables, x, count, ratio, entries_now.data()), any);
          ASSERT_EQ(level->largest(x, count), scalar.largest(x, count));
          if (!any) continue;
          ASSERT_EQ(codes_now, codes) << name_of(isa) << " " << count;
          ASSERT_EQ(selectors_now, selectors) << name_of(isa) << " " << count;
          ASSERT_EQ(entries_now, entries) << name_of(isa) << " " << count;
        }
      }
    }
  }
}

TEST(LobcqEncode, EveryLevelFindsTheFirstOfTheLargest) {
  for (const Isa isa : supported_isas()) {
    const LobcqLevel* level = &lobcq_level(isa);
    for (int count = 1; count <= kLongestArray; ++count) {
      std::vector<float> x(static_cast<std::size_t>(count), 0.5f);
      EXPECT_EQ(level->largest(x.data(), count), 0.5f);
      x.back() = -2;
      EXPECT_EQ(level->largest(x.data(), count), -2) << name_of(isa);
      if (count > 1) x[static_cast<std::size_t>(count / 2 - 1)] = 2;
      EXPECT_EQ(level->largest(x.data(), count), count > 1 ? 2 : -2) << name_of(isa);
      x[static_cast<std::size_t>(count / 3)] = -std::numeric_limits<float>::infinity();
      EXPECT_FALSE(std::isfinite(level->largest(x.data(), count))) << name_of(isa);
      x[static_cast<std::size_t>(count / 3)] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_FALSE(std::isfinite(level->largest(x.data(), count))) << name_of(isa);
    }
  }
}

TEST(LobcqEncode, ThreadsDoNotMatter) {
  const LobcqLayout layout{64, 8, 8};
  const Codebooks codebooks = random_codebooks(layout, 91);
  const Matrix<float> values = sample(300, 700, 92);
  const LobcqEncoder encoder(layout, codebooks);
  ThreadScope one(1);
  const LobcqTensor alone = encoder.encode(values, 0.001f, ScaleChoice::search);
  ThreadScope four(4);
  EXPECT_EQ(encoder.encode(values, 0.001f, ScaleChoice::search), alone);
}

}  // namespace
}  // namespace neap
