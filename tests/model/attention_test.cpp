#include <gtest/gtest.h>

#include <cstring>

#include "base/parallel.h"
#include "model/block.h"
#include "small_block.h"

namespace neap {
namespace {

// fp32 sums of a few hundred terms; bf16 rounds each operand to 2^-9 and the errors average out.
constexpr double kTolerance32 = 2e-6, kTolerance16 = 1e-2;

void expect_attention(const SmallBlock& shape, std::size_t length, std::size_t windows = 1) {
  const ModelConfig config = shape.config();
  const RopeTable rope = make_rope_table(config, length);
  const Matrix<float> h = random_matrix(windows * length, shape.hidden, 1.f, "h");
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    const Block block = shape.block(precision);
    Matrix<float> a(h.rows(), shape.heads * shape.head_dim);
    attention(config, block, rope, precision, length, h, a);
    for (std::size_t w = 0; w < windows; ++w) {
      const DoubleMatrix expected =
          reference_attention(shape, block, to_double(h.view().row_range(w * length, length)));
      EXPECT_LT(relative_error(a.view().row_range(w * length, length), expected),
                precision == Precision::f32 ? kTolerance32 : kTolerance16)
          << "length " << length << ", window " << w;
    }
  }
}

TEST(Attention, EqualsTheFormulaAtEveryKindOfLength) {
  for (const std::size_t length : {1, 2, 47, 64, 65, 96, 97, 512, 513, 700}) {
    expect_attention({.heads = 4, .kv_heads = 2}, length);
  }
}

TEST(Attention, KeepsWindowsApart) { expect_attention({}, 70, 3); }

TEST(Attention, SharesAKeyAmongAnyNumberOfHeads) {
  for (const std::size_t group : {1, 2, 3, 5, 8}) {
    expect_attention({.heads = 2 * group, .kv_heads = 2}, 130);
  }
}

TEST(Attention, TakesAnyEvenHeadSize) {
  for (const std::size_t head_dim : {2, 16, 48, 72, 80, 112, 128}) {
    expect_attention({.heads = 3, .kv_heads = 1, .head_dim = head_dim}, 90);
  }
}

TEST(Attention, AWindowHidesWhatLiesBehindIt) {
  for (const std::int64_t window : {1, 3, 63, 64, 65, 100, 512, 2000}) {
    expect_attention({.window = window}, 600);
  }
}

TEST(Attention, HeadNormsBiasesAndRopeAreSwitches) {
  expect_attention({.bias = true}, 100);
  expect_attention({.qk_norm = true}, 100);
  expect_attention({.rope = false}, 100);
  expect_attention({.window = 50, .rope = false, .bias = true, .qk_norm = true}, 100);
}

TEST(Attention, ThreadCountDoesNotChangeTheBits) {
  const SmallBlock shape{.window = 300};
  const ModelConfig config = shape.config();
  const RopeTable rope = make_rope_table(config, 600);
  const Matrix<float> h = random_matrix(1200, shape.hidden, 1.f, "h");
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    const Block block = shape.block(precision);
    Matrix<float> one(1200, 64), many(1200, 64);
    {
      const ThreadScope scope(1);
      attention(config, block, rope, precision, 600, h, one);
    }
    for (const int threads : {2, 3}) {
      const ThreadScope scope(threads);
      attention(config, block, rope, precision, 600, h, many);
      EXPECT_EQ(std::memcmp(one.data(), many.data(), 1200 * 64 * sizeof(float)), 0) << threads;
    }
  }
}

TEST(Attention, ANaNReachesTheTokensThatSeeIt) {
  const SmallBlock shape;
  const ModelConfig config = shape.config();
  const Block block = shape.block(Precision::bf16);
  Matrix<float> h = random_matrix(200, shape.hidden, 1.f, "h"), a(200, 64);
  h(150, 7) = std::nanf("");
  attention(config, block, make_rope_table(config, 200), Precision::bf16, 200, h, a);
  for (std::size_t r = 150; r < 200; ++r) EXPECT_TRUE(std::isnan(a(r, 0))) << r;
}

}  // namespace
}  // namespace neap
