#include "linalg/balancing.h"

#include <lapacke.h>

#include <cmath>
#include <vector>

#include "neap/error.h"

namespace neap {
namespace {

BasisChange identity(std::size_t n) {
  BasisChange same{Matrix<double>(n, n), Matrix<double>(n, n)};
  for (std::size_t i = 0; i < n; ++i) same.forward(i, i) = same.backward(i, i) = 1;
  return same;
}

double trace(MatrixView<const double> a) {
  double sum = 0;
  for (std::size_t i = 0; i < a.rows; ++i) sum += a(i, i);
  return sum;
}

// L with L L' = a + ridge * mean diagonal, lower triangular; empty if there is none.
Matrix<double> factor(MatrixView<const double> a, double ridge) {
  const std::size_t n = a.rows;
  const double lift = ridge * trace(a) / static_cast<double>(n);
  Matrix<double> l(n, n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j <= i; ++j) l(i, j) = a(i, j) + (i == j ? lift : 0);
  }
  const auto order = static_cast<lapack_int>(n);
  if (!(lift > 0) || LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', order, l.data(), order) != 0) return {};
  return l;
}

// a'b
Matrix<double> transposed_product(const Matrix<double>& a, const Matrix<double>& b) {
  Matrix<double> product(a.cols(), b.cols());
  for (std::size_t k = 0; k < a.rows(); ++k) {
    for (std::size_t i = 0; i < a.cols(); ++i) {
      for (std::size_t j = 0; j < b.cols(); ++j) product(i, j) += a(k, i) * b(k, j);
    }
  }
  return product;
}

Matrix<double> product(const Matrix<double>& a, const Matrix<double>& b) {
  Matrix<double> result(a.rows(), b.cols());
  for (std::size_t i = 0; i < a.rows(); ++i) {
    for (std::size_t k = 0; k < a.cols(); ++k) {
      for (std::size_t j = 0; j < b.cols(); ++j) result(i, j) += a(i, k) * b(k, j);
    }
  }
  return result;
}

}  // namespace

// With C = K K', G = L L' and L'K = U S V': T = S^-1/2 U'L' and T^-1 = K V S^-1/2, which never squares a condition number.
BasisChange balance_forms(MatrixView<const double> c, MatrixView<const double> g, double ridge) {
  const std::size_t n = c.rows;
  NEAP_CHECK(c.cols == n && g.rows == n && g.cols == n && ridge > 0);
  const Matrix<double> k = factor(c, ridge), l = factor(g, ridge);
  if (k.rows() == 0 || l.rows() == 0) return identity(n);
  Matrix<double> u = transposed_product(l, k);  // becomes U
  Matrix<double> v(n, n);
  std::vector<double> s(n), work(6);
  const auto order = static_cast<lapack_int>(n);
  if (LAPACKE_dgesvj(LAPACK_ROW_MAJOR, 'G', 'U', 'V', order, order, u.data(), order, s.data(), 0, v.data(), order,
                     work.data()) != 0) {
    return identity(n);
  }
  for (std::size_t j = 0; j < n; ++j) {
    const double scale = 1 / std::sqrt(s[j] * work[0]);
    if (!std::isfinite(scale)) return identity(n);
    for (std::size_t i = 0; i < n; ++i) u(i, j) *= scale, v(i, j) *= scale;
  }
  Matrix<double> transposed(n, n);  // (L U)'
  const Matrix<double> lu = product(l, u);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) transposed(i, j) = lu(j, i);
  }
  return {std::move(transposed), product(k, v)};
}

}  // namespace neap
