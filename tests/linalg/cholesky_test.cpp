#include "linalg/cholesky.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

Matrix<float> positive_definite(std::size_t n, std::uint64_t seed) {
  const Matrix<float> x = random_inputs(2 * n + 5, n, seed);
  return transposed_product(x, x);
}

class CholeskyOfSize : public testing::TestWithParam<std::size_t> {};

TEST_P(CholeskyOfSize, FactorTimesItselfGivesTheMatrixBack) {
  const std::size_t n = GetParam();
  const Matrix<float> a = positive_definite(n, 1);
  Matrix<float> r = a;
  ASSERT_EQ(cholesky_upper(r), n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i; j < n; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k <= i; ++k) sum += static_cast<double>(r(k, i)) * r(k, j);
      // Backward stable: |A - R'R| <= (n + 1) eps |R'||R| <= (n + 1) eps sqrt(a_ii a_jj).
      const double bound = (n + 1) * 0x1p-23 * std::sqrt(double(a(i, i)) * a(j, j));
      ASSERT_NEAR(sum, a(i, j), bound) << i << " " << j;
    }
  }
}

TEST_P(CholeskyOfSize, LeavesTheLowerTriangleAlone) {
  const std::size_t n = GetParam();
  const Matrix<float> a = positive_definite(n, 2);
  Matrix<float> r = a;
  cholesky_upper(r);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j) ASSERT_EQ(r(i, j), a(i, j));
  }
}

TEST_P(CholeskyOfSize, TriangularSolvesUndoTheProduct) {
  const std::size_t n = GetParam(), columns = 5;
  Matrix<float> upper = random_matrix(n, n, 4);
  for (std::size_t i = 0; i < n * n; ++i) upper.data()[i] /= static_cast<float>(2 * n);
  const Matrix<float> x = random_matrix(n, columns, 5);
  Matrix<float> product = x, transposed = x;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t c = 0; c < columns; ++c) {
      double forward = x(i, c), backward = x(i, c);
      for (std::size_t j = i + 1; j < n; ++j) forward += static_cast<double>(upper(i, j)) * x(j, c);
      for (std::size_t j = 0; j < i; ++j) backward += static_cast<double>(upper(j, i)) * x(j, c);
      product(i, c) = static_cast<float>(forward);
      transposed(i, c) = static_cast<float>(backward);
    }
  }
  solve_unit_upper(upper, product);
  solve_unit_upper_transposed(upper, transposed);
  for (std::size_t i = 0; i < n * columns; ++i) {
    ASSERT_NEAR(product.data()[i], x.data()[i], 1e-5);
    ASSERT_NEAR(transposed.data()[i], x.data()[i], 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(BelowAtAndAcrossTiles, CholeskyOfSize,
                         testing::Values(1, 2, 255, 256, 257, 600));

TEST(Cholesky, NamesThePivotThatFails) {
  for (const std::size_t bad : {std::size_t{0}, std::size_t{17}, std::size_t{299}}) {
    Matrix<float> a(300, 300);
    for (std::size_t i = 0; i < 300; ++i) a(i, i) = i == bad ? -1.0f : 1.0f;
    EXPECT_EQ(cholesky_upper(a), bad);
  }
}

TEST(Cholesky, ThreadCountDoesNotChangeTheBytes) {
  std::vector<Matrix<float>> factors;
  for (const int threads : {1, 2, 3}) {
    const ThreadScope scope(threads);
    factors.push_back(positive_definite(700, 3));
    ASSERT_EQ(cholesky_upper(factors.back()), 700u);
  }
  for (std::size_t i = 0; i < 700 * 700; ++i) {
    ASSERT_EQ(factors[0].data()[i], factors[1].data()[i]);
    ASSERT_EQ(factors[0].data()[i], factors[2].data()[i]);
  }
}

}  // namespace
}  // namespace neap
