#include "linalg/gram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

constexpr std::size_t kInputs = 200, kAhead = 230, kTokens = 50;

struct Window {
  Matrix<float> runtime, ahead;
};

std::vector<Window> make_windows(std::size_t count) {
  std::vector<Window> windows;
  for (std::size_t w = 0; w < count; ++w) {
    Window window{random_inputs(kTokens + w, kInputs, 10 + w), random_matrix(kTokens + w, kAhead, 100 + w)};
    for (std::size_t i = 0; i < window.ahead.rows() * kAhead; ++i) window.ahead.data()[i] *= 0.05f;
    windows.push_back(std::move(window));
  }
  return windows;
}

GramAccumulator accumulate(const std::vector<Window>& windows, std::size_t first, std::size_t end,
                           Precision precision) {
  GramAccumulator sums(kInputs, kAhead, windows.size(), precision);
  for (std::size_t w = first; w < end; ++w) sums.add(w, windows[w].runtime, windows[w].ahead);
  return sums;
}

void expect_same_bytes(const Matrix<float>& a, const Matrix<float>& b) {
  ASSERT_EQ(a.rows(), b.rows());
  ASSERT_EQ(a.cols(), b.cols());
  for (std::size_t i = 0; i < a.rows() * a.cols(); ++i) ASSERT_EQ(a.data()[i], b.data()[i]) << i;
}

// Largest |found - wanted| over sqrt(h_ii k_jj), the size that products of these columns have.
double worst(const Matrix<float>& found, const Matrix<double>& wanted, const Matrix<double>& left,
             const Matrix<double>& right) {
  double most = 0;
  for (std::size_t i = 0; i < kInputs; ++i) {
    for (std::size_t j = 0; j < found.cols(); ++j) {
      most = std::max(most, std::abs(found(i, j) - wanted(i, j)) / std::sqrt(left(i, i) * right(j, j)));
    }
  }
  return most;
}

struct Exact {
  Matrix<double> gram{kInputs, kInputs}, drift{kInputs, kAhead}, noise{kAhead, kAhead};

  explicit Exact(const std::vector<Window>& windows) {
    for (const Window& w : windows) {
      for (std::size_t t = 0; t < w.runtime.rows(); ++t) {
        for (std::size_t i = 0; i < kInputs; ++i) {
          const double x = w.runtime(t, i);
          for (std::size_t j = 0; j < kInputs; ++j) gram(i, j) += x * w.runtime(t, j);
          for (std::size_t j = 0; j < kAhead; ++j) drift(i, j) += x * w.ahead(t, j);
        }
        for (std::size_t j = 0; j < kAhead; ++j) noise(j, j) += double{w.ahead(t, j)} * w.ahead(t, j);
      }
    }
  }
};

TEST(Gram, SumsInFp32AreExactUpToRounding) {
  const auto windows = make_windows(11);
  const GramPair found = accumulate(windows, 0, 11, Precision::f32).finish();
  const Exact exact(windows);
  EXPECT_LT(worst(found.gram, exact.gram, exact.gram, exact.gram), 600 * 0x1p-24);
  EXPECT_LT(worst(found.drift, exact.drift, exact.gram, exact.noise), 600 * 0x1p-24);
}

// bf16 keeps 8 bits: each factor is off by at most 2^-9 of itself, so a product of two columns by at
// most 2^-8 of their lengths. The drift's error is relative to the *difference*, which is the point
// of summing it rather than C.
TEST(Gram, Bf16ErrsByBf16RoundingOfTheFactorsAlone) {
  const auto windows = make_windows(3);
  const GramPair found = accumulate(windows, 0, 3, Precision::bf16).finish();
  const Exact exact(windows);
  EXPECT_LT(worst(found.gram, exact.gram, exact.gram, exact.gram), 0x1p-8);
  EXPECT_LT(worst(found.drift, exact.drift, exact.gram, exact.noise), 0x1p-8 + 600 * 0x1p-24);
}

TEST(Gram, IsSymmetric) {
  const GramPair found = accumulate(make_windows(2), 0, 2, Precision::bf16).finish();
  for (std::size_t i = 0; i < kInputs; ++i) {
    for (std::size_t j = 0; j < i; ++j) ASSERT_EQ(found.gram(i, j), found.gram(j, i));
  }
}

TEST(Gram, ThreadCountDoesNotChangeTheBytes) {
  const auto windows = make_windows(9);
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    std::vector<GramPair> found;
    for (const int threads : {1, 3}) {
      const ThreadScope scope(threads);
      found.push_back(accumulate(windows, 0, 9, precision).finish());
    }
    expect_same_bytes(found[0].gram, found[1].gram);
    expect_same_bytes(found[0].drift, found[1].drift);
  }
}

// Every way to cut the windows at borders of chunks, into two and into three parts, for counts below, at and
// above the number of chunks.
TEST(Gram, SplitsAtBordersOfChunksMergeToTheSameBytes) {
  for (const std::size_t count : {3, 8, 13}) {
    const auto windows = make_windows(count);
    const GramPair whole = accumulate(windows, 0, count, Precision::f32).finish();
    for (std::size_t a = 0; a <= GramAccumulator::kChunks; ++a) {
      for (std::size_t b = a; b <= GramAccumulator::kChunks; ++b) {
        const std::size_t first = a * count / GramAccumulator::kChunks;
        const std::size_t second = b * count / GramAccumulator::kChunks;
        GramAccumulator sums = accumulate(windows, 0, first, Precision::f32);
        sums.merge(accumulate(windows, first, second, Precision::f32));
        sums.merge(accumulate(windows, second, count, Precision::f32));
        const GramPair found = sums.finish();
        expect_same_bytes(found.gram, whole.gram);
        expect_same_bytes(found.drift, whole.drift);
      }
    }
  }
}

TEST(Gram, WithoutAReferenceStreamThereIsNoDrift) {
  const auto windows = make_windows(2);
  GramAccumulator sums(kInputs, 0, 2, Precision::f32);
  for (std::size_t w = 0; w < 2; ++w) sums.add(w, windows[w].runtime, {});
  const GramPair found = sums.finish();
  EXPECT_TRUE(found.drift.empty());
  expect_same_bytes(found.gram, accumulate(windows, 0, 2, Precision::f32).finish().gram);
}

TEST(Gram, OneInputAndOneTokenWork) {
  Matrix<float> x(1, 1), y(1, 1);
  x(0, 0) = 3;
  y(0, 0) = 1;
  GramAccumulator sums(1, 1, 1, Precision::bf16);
  sums.add(0, x, y);
  const GramPair found = sums.finish();
  EXPECT_EQ(found.gram(0, 0), 9);
  EXPECT_EQ(found.drift(0, 0), 3);
}

}  // namespace
}  // namespace neap
