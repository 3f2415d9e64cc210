// A small layer with its statistics, and judges that know only the definition of the objective.
#pragma once

#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "solve/grid.h"
#include "solve/layer.h"
#include "solve/system.h"
#include "solve/tile.h"
#include "support/random_matrix.h"

namespace neap {

struct Problem {
  Matrix<float> gram, drift, weight;

  // Correlated inputs of uneven size, a reference stream that differs by a tenth; with `residual`, also a
  // residual stream that the rows shall make up for.
  Problem(std::size_t rows, std::size_t cols, std::uint64_t seed, bool residual = false)
      : weight(random_matrix(rows, cols, seed)) {
    const Matrix<float> runtime = random_inputs(2 * cols + 8, cols, seed + 1);
    Matrix<float> difference = random_matrix(2 * cols + 8, cols + (residual ? rows : 0), seed + 2);
    for (std::size_t i = 0; i < difference.rows() * difference.cols(); ++i) difference.data()[i] *= 0.1f;
    gram = transposed_product(runtime, runtime);
    drift = transposed_product(runtime, difference);
    for (std::size_t i = 0; i < rows * cols; ++i) weight.data()[i] *= 0.05f;
  }
};

inline double weight_of(const QuantizedTensor& t, std::size_t row, std::size_t col) {
  const auto cols = static_cast<std::size_t>(t.cols);
  const std::size_t width = t.layout.group == 0 ? cols : std::min<std::size_t>(t.layout.group, cols);
  const std::size_t at = row * ((cols + width - 1) / width) + col / width;
  const double zero = t.layout.symmetric ? 1 << (t.layout.bits - 1) : t.zeros[at];
  return t.scales[at] * (t.codes[row * cols + col] - zero);
}

// A = H + damping I, by input, in fp64.
inline Matrix<double> damped(const Matrix<float>& gram, double damping) {
  Matrix<double> a(gram.rows(), gram.cols());
  for (std::size_t i = 0; i < gram.rows() * gram.cols(); ++i) a.data()[i] = gram.data()[i];
  for (std::size_t i = 0; i < gram.rows(); ++i) a(i, i) += damping;
  return a;
}

// Solves a x = b by elimination with pivoting: an implementation of its own, in fp64.
inline std::vector<double> solve_linear(Matrix<double> a, std::vector<double> b) {
  const std::size_t n = b.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k; i < n; ++i) {
      if (std::abs(a(i, k)) > std::abs(a(pivot, k))) pivot = i;
    }
    for (std::size_t j = 0; j < n; ++j) std::swap(a(k, j), a(pivot, j));
    std::swap(b[k], b[pivot]);
    for (std::size_t i = k + 1; i < n; ++i) {
      const double f = a(i, k) / a(k, k);
      for (std::size_t j = k; j < n; ++j) a(i, j) -= f * a(k, j);
      b[i] -= f * b[k];
    }
  }
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t j = k + 1; j < n; ++j) b[k] -= a(k, j) * b[j];
    b[k] /= a(k, k);
  }
  return b;
}

// t = A^-1 ((1 - mu) (C w + s) + mu H w + damping w), literally, with C = H + D; s is the drift's column
// n + row, if it has so many.
inline std::vector<double> exact_target(const Problem& problem, std::size_t row, double mu, double damping) {
  const std::size_t n = problem.gram.rows();
  std::vector<double> b(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      const double h = problem.gram(i, j), c = h + problem.drift(i, j);
      b[i] += ((1 - mu) * c + mu * h) * problem.weight(row, j);
    }
    if (problem.drift.cols() > n) b[i] += (1 - mu) * problem.drift(i, n + row);
    b[i] += damping * problem.weight(row, i);
  }
  return solve_linear(damped(problem.gram, damping), b);
}

// (w^ - t)' A (w^ - t) of one row.
inline double exact_objective(const Matrix<double>& a, const std::vector<double>& error) {
  double sum = 0;
  for (std::size_t i = 0; i < error.size(); ++i) {
    for (std::size_t j = 0; j < error.size(); ++j) sum += error[i] * a(i, j) * error[j];
  }
  return sum;
}

inline double exact_objective(const Problem& problem, const LayerSystem& system,
                              const QuantizedTensor& tensor, std::size_t row, double mu) {
  std::vector<double> error = exact_target(problem, row, mu, system.report().damping);
  for (std::size_t c = 0; c < error.size(); ++c) error[c] = weight_of(tensor, row, c) - error[c];
  return exact_objective(damped(problem.gram, system.report().damping), error);
}

}  // namespace neap
