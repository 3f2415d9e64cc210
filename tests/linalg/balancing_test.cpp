#include "linalg/balancing.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/random_matrix.h"

namespace neap {
namespace {

// Second moments of correlated values whose sizes differ by orders of magnitude.
Matrix<double> moments(std::size_t n, std::size_t samples, std::uint64_t seed) {
  const Matrix<float> x = random_inputs(samples, n, seed);
  Matrix<double> sum(n, n);
  for (std::size_t t = 0; t < samples; ++t) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        sum(i, j) += std::pow(10.0, static_cast<double>(i % 4) + static_cast<double>(j % 4)) * x(t, i) * x(t, j);
      }
    }
  }
  return sum;
}

Matrix<double> product(const Matrix<double>& a, const Matrix<double>& b) {
  Matrix<double> c(a.rows(), b.cols());
  for (std::size_t i = 0; i < a.rows(); ++i) {
    for (std::size_t k = 0; k < a.cols(); ++k) {
      for (std::size_t j = 0; j < b.cols(); ++j) c(i, j) += a(i, k) * b(k, j);
    }
  }
  return c;
}

Matrix<double> transposed(const Matrix<double>& a) {
  Matrix<double> b(a.cols(), a.rows());
  for (std::size_t i = 0; i < a.rows(); ++i) {
    for (std::size_t j = 0; j < a.cols(); ++j) b(j, i) = a(i, j);
  }
  return b;
}

Matrix<double> lifted(Matrix<double> a, double ridge) {
  double mean = 0;
  for (std::size_t i = 0; i < a.rows(); ++i) mean += a(i, i) / static_cast<double>(a.rows());
  for (std::size_t i = 0; i < a.rows(); ++i) a(i, i) += ridge * mean;
  return a;
}

TEST(BalanceForms, BothFormsBecomeTheSameDiagonal) {
  for (const std::size_t n : {1, 2, 16, 64, 128}) {
    const Matrix<double> c = moments(n, 2 * n, 1), g = moments(n, n / 2 + 1, 2);
    const BasisChange change = balance_forms(c, g, 1e-3);
    const Matrix<double> a = product(product(change.forward, lifted(c, 1e-3)), transposed(change.forward));
    const Matrix<double> b = product(product(transposed(change.backward), lifted(g, 1e-3)), change.backward);
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(a(i, i) / b(i, i), 1, 1e-9) << n;
      EXPECT_LE(a(i, i), a(i - (i > 0), i - (i > 0)) * (1 + 1e-9)) << n;
      for (std::size_t j = 0; j < n; ++j) {
        if (i == j) continue;
        EXPECT_NEAR(a(i, j), 0, 1e-9 * a(0, 0)) << n;
        EXPECT_NEAR(b(i, j), 0, 1e-9 * a(0, 0)) << n;
      }
    }
  }
}

TEST(BalanceForms, BackwardUndoesForward) {
  const std::size_t n = 64;
  const BasisChange change = balance_forms(moments(n, 2 * n, 3), moments(n, n, 4), 1e-3);
  const Matrix<double> same = product(change.backward, change.forward);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) EXPECT_NEAR(same(i, j), i == j, 1e-9);
  }
}

TEST(BalanceForms, ZeroFormsLeaveTheBasis) {
  const BasisChange change = balance_forms(Matrix<double>(3, 3), moments(3, 6, 5), 1e-3);
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) EXPECT_EQ(change.forward(i, j), i == j);
  }
}

}  // namespace
}  // namespace neap
