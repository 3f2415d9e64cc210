// Seeded matrices for tests.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/random.h"
#include "neap/matrix.h"

namespace neap {

// Standard normal entries, a pure function of the seed.
inline Matrix<float> random_matrix(std::size_t rows, std::size_t cols, std::uint64_t seed) {
  Matrix<float> out(rows, cols);
  for (std::size_t i = 0; i < rows * cols; ++i) {
    const auto bits = philox({static_cast<std::uint32_t>(i), 0, 0, 0}, seed);
    const double u = uniform_double(bits[0], bits[1]), v = uniform_double(bits[2], bits[3]);
    out.data()[i] = static_cast<float>(std::sqrt(-2 * std::log1p(-u)) * std::cos(2 * M_PI * v));
  }
  return out;
}

// Inputs as layers see them: correlated columns of very different size. (tokens, inputs)
inline Matrix<float> random_inputs(std::size_t tokens, std::size_t inputs, std::uint64_t seed) {
  Matrix<float> x = random_matrix(tokens, inputs, seed);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t i = 1; i < inputs; ++i) x(t, i) = 0.7f * x(t, i - 1) + 0.7f * x(t, i);
    for (std::size_t i = 0; i < inputs; ++i) x(t, i) *= 0.2f + 3.0f * ((i * 37) % inputs) / inputs;
  }
  return x;
}

// a'b in fp64, rounded once.
inline Matrix<float> transposed_product(MatrixView<const float> a, MatrixView<const float> b) {
  Matrix<double> sum(a.cols, b.cols);
  for (std::size_t t = 0; t < a.rows; ++t) {
    for (std::size_t i = 0; i < a.cols; ++i) {
      for (std::size_t j = 0; j < b.cols; ++j) sum(i, j) += static_cast<double>(a(t, i)) * b(t, j);
    }
  }
  Matrix<float> out(a.cols, b.cols);
  for (std::size_t i = 0; i < a.cols * b.cols; ++i) out.data()[i] = static_cast<float>(sum.data()[i]);
  return out;
}

}  // namespace neap
