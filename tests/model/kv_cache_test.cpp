#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "base/parallel.h"
#include "model/block.h"
#include "small_block.h"

namespace neap {
namespace {

// Runs each sequence's rows of x through the block in the given steps of new tokens, from an empty
// cache; a step of 0 leaves a sequence out. steps: one list per sequence, all of one length.
Matrix<float> run_ragged(const SmallBlock& shape, Precision precision, AttentionTypes types,
                         const std::vector<std::vector<std::size_t>>& steps,
                         const std::vector<Matrix<float>>& x) {
  const ModelConfig config = shape.config();
  const Block block = shape.block(precision);
  std::size_t longest = 0, rows = 0;
  for (const auto& part : x) {
    longest = std::max(longest, part.rows());
    rows += part.rows();
  }
  const RopeTable rope = make_rope_table(config, longest);
  KvCache cache(config, types.kept, x.size());
  Matrix<float> y(rows, shape.hidden);
  for (std::size_t i = 0; i < steps[0].size(); ++i) {
    std::vector<Segment> segments;
    std::size_t count = 0;
    for (std::size_t s = 0; s < x.size(); ++s) {
      if (steps[s][i] == 0) continue;
      segments.push_back({s, count, cache.length(s), steps[s][i]});
      count += steps[s][i];
      cache.reserve(cache.length(s) + steps[s][i]);
    }
    if (segments.empty()) continue;
    Matrix<float> batch(count, shape.hidden);
    const std::size_t row_bytes = shape.hidden * sizeof(float);
    for (const Segment& segment : segments) {
      std::memcpy(batch.row(segment.row), x[segment.sequence].row(segment.start),
                  segment.count * row_bytes);
    }
    forward_block_cached(config, block, rope, types.operand, cache, segments, batch);
    for (const Segment& segment : segments) {
      std::size_t first = segment.start;
      for (std::size_t s = 0; s < segment.sequence; ++s) first += x[s].rows();
      std::memcpy(y.row(first), batch.row(segment.row), segment.count * row_bytes);
      cache.advance(segment.sequence, segment.count);
    }
  }
  for (std::size_t s = 0; s < x.size(); ++s) EXPECT_EQ(cache.length(s), x[s].rows());
  return y;
}

// The same steps for sequences of equal length, one after another in x.
Matrix<float> run_in_steps(const SmallBlock& shape, Precision precision, AttentionTypes types,
                           std::size_t sequences, const std::vector<std::size_t>& steps,
                           const Matrix<float>& x) {
  const std::size_t length = x.rows() / sequences;
  std::vector<Matrix<float>> parts;
  for (std::size_t s = 0; s < sequences; ++s) {
    parts.emplace_back(length, x.cols());
    std::memcpy(parts.back().data(), x.row(s * length), length * x.cols() * sizeof(float));
  }
  return run_ragged(shape, precision, types, {sequences, steps}, parts);
}

constexpr struct {
  Precision precision;
  KvType kept;
  double tolerance;
} kKinds[] = {{Precision::f32, KvType::f32, 1e-6},
              {Precision::f32, KvType::bf16, 1e-6},
              {Precision::f32, KvType::int8, 1e-6},
              {Precision::bf16, KvType::bf16, 1e-2},
              {Precision::bf16, KvType::int8, 1e-2}};

// Both keep keys and values in the same type: what is left is the rounding of the products.
void expect_steps_equal_the_window(const SmallBlock& shape, const std::vector<std::size_t>& steps) {
  std::size_t length = 0;
  for (const std::size_t step : steps) length += step;
  for (const std::size_t sequences : {1, 3}) {
    const Matrix<float> x = random_matrix(sequences * length, shape.hidden, 1.f, "x");
    for (const auto& [precision, kept, tolerance] : kKinds) {
      const AttentionTypes types(precision, kept);
      const Matrix<float> stepped = run_in_steps(shape, precision, types, sequences, steps, x);
      Matrix<float> whole = x;
      const ModelConfig config = shape.config();
      forward_block(config, shape.block(precision), make_rope_table(config, length), types, length,
                    whole);
      EXPECT_LT(relative_error(stepped, to_double(whole)), tolerance) << name_of(kept);
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

TEST(KvCache, ATokenFarBackIsSeenThroughManyParts) {
  expect_steps_equal_the_window({}, {511, 1, 1, 1000, 1, 1});
  expect_steps_equal_the_window({.window = 1100}, {1400, 1, 1});
}

TEST(KvCache, GrowingLosesNothing) {
  const SmallBlock shape;
  for (const KvType type : {KvType::f32, KvType::bf16, KvType::int8}) {
    KvCache cache(shape.config(), type, 2);
    cache.reserve(10);
    const auto mark = [](std::size_t s, std::size_t h) { return static_cast<float>(10 * s + h + 1); };
    const KeyValues before = cache.layer(0);
    EXPECT_EQ(before.capacity % KeyValues::kPositionStep, 0u);
    for (std::size_t s = 0; s < 2; ++s) {
      for (std::size_t h = 0; h < 2; ++h) {
        const std::vector<float> values(before.values.head_dim, mark(s, h));
        before.values.store(before.row(s, h, 9), values.data());
      }
      cache.advance(s, 10);
    }
    cache.reserve(1000);
    const KeyValues after = cache.layer(0);
    EXPECT_GE(after.capacity, 1000u);
    Buffer buffer;
    for (std::size_t s = 0; s < 2; ++s) {
      for (std::size_t h = 0; h < 2; ++h) {
        const auto* row = reinterpret_cast<const float*>(
            after.values.load(after.row(s, h, 9), 1, Operand::f32, buffer));
        EXPECT_FLOAT_EQ(row[1], mark(s, h)) << name_of(type);
      }
    }
  }
}

TEST(KvCache, TruncatedTokensMayBeReplaced) {
  const SmallBlock shape;
  const Matrix<float> x = random_matrix(80, shape.hidden, 1.f, "x");
  const ModelConfig config = shape.config();
  const Block block = shape.block(Precision::f32);
  const RopeTable rope = make_rope_table(config, 120);
  KvCache cache(config, KvType::f32, 1);
  cache.reserve(120);
  const auto run = [&](const Matrix<float>& rows, std::size_t count) {
    Matrix<float> y(count, shape.hidden);
    std::memcpy(y.data(), rows.row(cache.length(0)), count * shape.hidden * sizeof(float));
    const Segment segment{0, 0, cache.length(0), count};
    forward_block_cached(config, block, rope, Operand::f32, cache, {&segment, 1}, y);
    cache.advance(0, count);
    return y;
  };
  run(x, 70);
  const Matrix<float> expected = run(x, 1);
  cache.truncate(0, 30);
  Matrix<float> other = random_matrix(120, shape.hidden, 1.f, "other");
  run(other, 90);
  cache.truncate(0, 30);
  EXPECT_EQ(cache.length(0), 30u);
  run(x, 40);
  const Matrix<float> again = run(x, 1);
  EXPECT_LT(relative_error(again, to_double(expected)), 1e-6);
}

TEST(KvCache, Int8IsWithinHalfAStepOfTheLargest) {
  const std::size_t size = 80;
  for (const float magnitude : {1e-20f, 0.3f, 1.f, 1e10f}) {
    const Matrix<float> x = random_matrix(50, size, magnitude, "rows");
    std::vector<std::byte> data(50 * size);
    std::vector<float> scales(50);
    const KvRows rows{KvType::int8, data.data(), scales.data(), size};
    for (std::size_t r = 0; r < 50; ++r) rows.store(r, x.row(r));
    Buffer buffer;
    const auto* read =
        reinterpret_cast<const float*>(rows.load(0, 50, Operand::f32, buffer));
    for (std::size_t r = 0; r < 50; ++r) {
      const float largest = std::abs(*std::max_element(
          x.row(r), x.row(r) + size, [](float a, float b) { return std::abs(a) < std::abs(b); }));
      for (std::size_t c = 0; c < size; ++c) {
        // Half a step, and the rounding of three products.
        EXPECT_LE(std::abs(read[r * size + c] - x(r, c)), largest / 254 * 1.0001f);
      }
    }
  }
}

TEST(KvCache, Int8OfZerosIsZeroAndOfNaNIsNaN) {
  std::vector<std::byte> data(2 * 18);
  std::vector<float> scales(2), row(18, 0.f);
  const KvRows rows{KvType::int8, data.data(), scales.data(), 18};
  rows.store(0, row.data());
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const std::size_t at : {0, 15, 17}) {
      std::vector<float> spoiled(18, 1.f);
      spoiled[at] = bad;
      rows.store(1, spoiled.data());
      Buffer buffer;
      const auto* read = reinterpret_cast<const float*>(rows.load(0, 2, Operand::f32, buffer));
      for (std::size_t c = 0; c < 18; ++c) {
        EXPECT_EQ(read[c], 0.f);
        EXPECT_TRUE(std::isnan(read[18 + c]));
      }
    }
  }
}

TEST(KvCache, NeitherThreadsNorCompanyChangeASequencesBits) {
  const SmallBlock shape;
  const std::vector<std::vector<std::size_t>> steps{
      {30, 1, 1, 20, 8}, {600, 1, 1, 1, 1}, {1, 0, 1, 0, 40}, {0, 0, 90, 1, 1}};
  std::vector<Matrix<float>> x;
  for (const auto& counts : steps) {
    std::size_t length = 0;
    for (const std::size_t count : counts) length += count;
    x.push_back(random_matrix(length, shape.hidden, 1.f, std::to_string(length)));
  }
  for (const auto& [precision, kept, tolerance] : kKinds) {
    const AttentionTypes types(precision, kept);
    const Matrix<float> together = run_ragged(shape, precision, types, steps, x);
    for (const int threads : {1, 2, 3}) {
      const ThreadScope scope(threads);
      std::size_t first = 0;
      for (std::size_t s = 0; s < x.size(); ++s) {
        const Matrix<float> alone = run_ragged(shape, precision, types, {steps[s]}, {x[s]});
        EXPECT_EQ(std::memcmp(alone.data(), together.row(first),
                              x[s].rows() * shape.hidden * sizeof(float)),
                  0)
            << name_of(kept) << ", sequence " << s << ", threads " << threads;
        first += x[s].rows();
      }
    }
  }
}

}  // namespace
}  // namespace neap
