// Judge: the fast mode's definition in kernels/group_matmul.h, spelt out, to the bit, at every
// level that this machine can run.
#include "kernels/group_matmul.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "base/parallel.h"
#include "codec/random_tensor.h"
#include "neap/error.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

// Zeros, tiny and large blocks among the rest.
Matrix<float> inputs(std::size_t tokens, std::size_t cols, std::uint64_t seed) {
  Matrix<float> x = random_inputs(tokens, cols, seed);
  for (std::size_t c = 0; c < std::min<std::size_t>(cols, 128); ++c) x(0, c) *= 1e-33f;
  for (std::size_t c = 0; c < std::min<std::size_t>(cols, 32); ++c) x(tokens - 1, c) = 0;
  return x;
}

std::int64_t block_of(const GroupLayout& layout) {
  for (const std::int64_t block : {128, 64, 32})
    if (layout.group % block == 0) return block;
  return 0;
}

float judged(const QuantizedTensor& w, std::int64_t row, const float* x) {
  const std::int64_t block = block_of(w.layout), groups = w.layout.groups(w.cols);
  float sum = 0;
  for (std::int64_t first = 0; first < w.cols; first += block) {
    const std::int64_t last = std::min(w.cols, first + block);
    float largest = 0;
    for (std::int64_t c = first; c < last; ++c) largest = std::max(largest, std::abs(x[c]));
    const std::int64_t group = w.layout.group == 0 ? 0 : first / w.layout.group;
    const auto at = static_cast<std::size_t>(row * groups + group);
    const int zero = w.layout.symmetric ? 1 << (w.layout.bits - 1) : w.zeros[at];
    int dot = 0;
    for (std::int64_t c = first; c < last && largest >= 0x1p-100f; ++c) {
      const int q = static_cast<int>(std::nearbyint(x[c] * (127.0f / largest)));
      EXPECT_LE(std::abs(q), 127);
      dot += q * (w.codes[static_cast<std::size_t>(row * w.cols + c)] - zero);
    }
    const float d = largest >= 0x1p-100f ? largest / 127.0f : 0.0f;
    sum = std::fma(static_cast<float>(dot), d * w.scales[at], sum);
  }
  return sum;
}

void compare(const GroupLayout& layout, std::int64_t rows, std::int64_t cols, std::size_t tokens,
             std::uint32_t seed) {
  const QuantizedTensor weights = random_tensor(layout, rows, cols, seed);
  const Matrix<float> x = inputs(tokens, static_cast<std::size_t>(cols), seed + 1);
  const PackedGroupInt packed(weights);
  for (const Isa isa : supported_isas()) {
    Int8Inputs rounded;
    rounded.round(packed.int8_blocks(), x, isa);
    Matrix<float> y(tokens, static_cast<std::size_t>(rows));
    multiply(packed, rounded, {}, y, isa);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::int64_t r = 0; r < rows; ++r) {
        const float found = y(t, static_cast<std::size_t>(r)), want = judged(weights, r, x.row(t));
        ASSERT_EQ(std::bit_cast<std::uint32_t>(found), std::bit_cast<std::uint32_t>(want))
            << name_of(isa) << ", " << layout.bits << " bits, groups of " << layout.group
            << (layout.symmetric ? ", symmetric, " : ", ") << tokens << " x " << cols << " x "
            << rows << ": token " << t << ", row " << r << ": " << found << " " << want;
      }
    }
  }
}

std::vector<GroupLayout> every_layout() {
  std::vector<GroupLayout> layouts;
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {0, 32, 64, 96, 128, 192, 256}) {
      for (const bool symmetric : {true, false}) {
        for (const DType type : {DType::bf16, DType::f16, DType::f32})
          layouts.push_back({bits, group, symmetric, type});
      }
    }
  }
  return layouts;
}

TEST(GroupMatmul, EveryLevelHasTheDefinedBitsInEveryLayout) {
  std::uint32_t seed = 100;
  for (const GroupLayout& layout : every_layout()) {
    for (const std::size_t tokens : {1, 3, 4, 7}) compare(layout, 37, 413, tokens, seed += 10);
  }
}

TEST(GroupMatmul, EveryLevelHasTheDefinedBitsAtOddSizes) {
  std::uint32_t seed = 90000;
  for (const bool symmetric : {true, false}) {
    for (const std::int64_t rows : {1, 16, 17, 70}) {
      for (const std::int64_t cols : {1, 31, 33, 64, 65, 130, 576}) {
        for (const std::size_t tokens : {1, 2, 5, 6, 13})
          compare({4, 64, symmetric, DType::bf16}, rows, cols, tokens, seed += 10);
      }
    }
  }
}

TEST(GroupMatmul, TilesOfTokensDoNotShow) { compare({3, 64, false, DType::f16}, 50, 192, 389, 7); }

TEST(GroupMatmul, TakesWhatItSaysItTakes) {
  EXPECT_TRUE(PackedGroupInt::fits({4, 0, true, DType::bf16}));
  EXPECT_TRUE(PackedGroupInt::fits({3, 96, true, DType::bf16}));
  EXPECT_FALSE(PackedGroupInt::fits({3, 48, true, DType::bf16}));
  EXPECT_FALSE(PackedGroupInt::fits({5, 64, true, DType::bf16}));
}

TEST(GroupMatmul, PackedWeightsTakeTheFilesBitsAWeight) {
  for (const int bits : {2, 3, 4, 8}) {
    const GroupLayout layout{bits, 64, true, DType::bf16};
    const PackedGroupInt packed(random_tensor(layout, 64, 2048, 3));
    EXPECT_EQ(static_cast<double>(packed.bytes()) * 8 / (64 * 2048),
              bits_per_weight(layout, 64, 2048));
  }
}

TEST(GroupMatmul, TheBiasIsAddedLast) {
  const PackedGroupInt packed(random_tensor({4, 32, false, DType::bf16}, 35, 200, 5));
  const Matrix<float> bias = random_matrix(1, 35, 6);
  for (const std::size_t tokens : {std::size_t{2}, std::size_t{8}}) {
    for (const Isa isa : supported_isas()) {
      Int8Inputs rounded;
      rounded.round(packed.int8_blocks(), random_matrix(tokens, 200, 7), isa);
      Matrix<float> without(tokens, 35), with(tokens, 35);
      multiply(packed, rounded, {}, without, isa);
      multiply(packed, rounded, {bias.data(), 35}, with, isa);
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t o = 0; o < 35; ++o)
          ASSERT_EQ(with(t, o), without(t, o) + bias(0, o)) << name_of(isa);
      }
    }
  }
}

TEST(GroupMatmul, RefusesWhatIsNotFinite) {
  const PackedGroupInt packed(random_tensor({4, 32, true, DType::bf16}, 16, 100, 5));
  Matrix<float> x = random_matrix(3, 100, 6);
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    x(1, 70) = bad;
    Int8Inputs rounded;
    EXPECT_THROW(rounded.round(packed.int8_blocks(), x), Error);
  }
}

}  // namespace
}  // namespace neap
