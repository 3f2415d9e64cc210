#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/parallel.h"
#include "model/block.h"
#include "small_block.h"

namespace neap {
namespace {

// x through the block in the given steps of new tokens per sequence, from an empty cache.
Matrix<float> run_in_steps(const SmallBlock& shape, Precision precision, std::size_t sequences,
                           const std::vector<std::size_t>& steps, const Matrix<float>& x) {
  const ModelConfig config = shape.config();
  const Block block = shape.block(precision);
  const std::size_t length = x.rows() / sequences;
  const RopeTable rope = make_rope_table(config, length);
  KvCache cache(config, precision, sequences);
  Matrix<float> y(x.rows(), x.cols());
  for (const std::size_t step : steps) {
    Matrix<float> rows(sequences * step, x.cols());
    const std::size_t bytes = step * x.cols() * sizeof(float), start = cache.length();
    for (std::size_t s = 0; s < sequences; ++s)
      std::memcpy(rows.row(s * step), x.row(s * length + start), bytes);
    forward_block_cached(config, block, rope, cache, step, rows);
    cache.advance(step);
    for (std::size_t s = 0; s < sequences; ++s)
      std::memcpy(y.row(s * length + start), rows.row(s * step), bytes);
  }
  EXPECT_EQ(cache.length(), length);
  return y;
}

void expect_steps_equal_the_window(const SmallBlock& shape, const std::vector<std::size_t>& steps) {
  std::size_t length = 0;
  for (const std::size_t step : steps) length += step;
  for (const std::size_t sequences : {1, 3}) {
    const Matrix<float> x = random_matrix(sequences * length, shape.hidden, 1.f, "x");
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      const Matrix<float> stepped = run_in_steps(shape, precision, sequences, steps, x);
      Matrix<float> whole = x;
      const ModelConfig config = shape.config();
      forward_block(config, shape.block(precision), make_rope_table(config, length), precision,
                    length, whole);
      EXPECT_LT(relative_error(stepped, to_double(whole)),
                precision == Precision::f32 ? 1e-6 : 1e-2);
    }
  }
}

TEST(KvCache, TokenByTokenEqualsTheWholeWindow) {
  expect_steps_equal_the_window({}, std::vector<std::size_t>(150, 1));
  expect_steps_equal_the_window(
      {.heads = 3, .kv_heads = 3, .head_dim = 18, .bias = true, .qk_norm = true},
      std::vector<std::size_t>(40, 1));
}

TEST(KvCache, PromptsInPiecesEqualTheWholeWindow) {
  expect_steps_equal_the_window({}, {100, 1, 1, 70, 1, 300, 5});
  expect_steps_equal_the_window({.head_dim = 80}, {64, 64, 2});
}

TEST(KvCache, AWindowHoldsAcrossSteps) {
  expect_steps_equal_the_window({.window = 9}, {5, 1, 1, 1, 1, 1, 1, 1, 1, 40, 1, 1});
  expect_steps_equal_the_window({.window = 70}, {200, 1, 1, 100});
}

TEST(KvCache, GrowingLosesNothing) {
  const SmallBlock shape;
  KvCache cache(shape.config(), Precision::f32, 2);
  cache.reserve(10);
  const KeyValues before = cache.layer(0);
  EXPECT_EQ(before.capacity % KeyValues::kPositionStep, 0u);
  for (std::size_t s = 0; s < 2; ++s) {
    for (std::size_t h = 0; h < 2; ++h) {
      const float mark = static_cast<float>(10 * s + h);
      std::memcpy(before.values + before.offset(s, h, 9) + 4, &mark, sizeof mark);
    }
  }
  cache.advance(10);
  cache.reserve(1000);
  const KeyValues after = cache.layer(0);
  EXPECT_GE(after.capacity, 1000u);
  for (std::size_t s = 0; s < 2; ++s) {
    for (std::size_t h = 0; h < 2; ++h) {
      float mark = 0;
      std::memcpy(&mark, after.values + after.offset(s, h, 9) + 4, sizeof mark);
      EXPECT_EQ(mark, static_cast<float>(10 * s + h));
    }
  }
}

TEST(KvCache, NeitherThreadsNorCompanyChangeASequencesBits) {
  const SmallBlock shape;
  const Matrix<float> x = random_matrix(5 * 60, shape.hidden, 1.f, "x");
  const std::vector<std::size_t> steps{30, 1, 1, 20, 8};
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    const Matrix<float> together = run_in_steps(shape, precision, 5, steps, x);
    for (const int threads : {1, 2, 3}) {
      const ThreadScope scope(threads);
      for (std::size_t s = 0; s < 5; ++s) {
        Matrix<float> one(60, shape.hidden);
        std::memcpy(one.data(), x.row(s * 60), 60 * shape.hidden * sizeof(float));
        const Matrix<float> alone = run_in_steps(shape, precision, 1, steps, one);
        EXPECT_EQ(
            std::memcmp(alone.data(), together.row(s * 60), 60 * shape.hidden * sizeof(float)), 0);
      }
    }
  }
}

}  // namespace
}  // namespace neap
