#include "solve/objective.h"

#include <cblas.h>

#include <algorithm>

#include "base/parallel.h"

namespace neap {

namespace {

void multiply(std::size_t m, std::size_t n, std::size_t k, const double* a, const double* b, double* c) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, k, b, n, 0, c, n);
}
void multiply(std::size_t m, std::size_t n, std::size_t k, const float* a, const float* b, float* c) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, k, b, n, 0, c, n);
}

template <class T>
std::vector<double> objective_in(const LayerSystem& system, MatrixView<const float> error) {
  constexpr std::size_t kBlock = 64;
  const ThreadScope serial(1);
  const std::size_t n = error.rows, rows = error.cols;
  Matrix<T> e(n, rows), factor(kBlock, n), product(kBlock, rows);
  for (std::size_t p = 0; p < n; ++p) std::copy_n(error.row(p), rows, e.row(p));
  std::vector<double> sum(rows);
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    const std::size_t end = std::min(n, begin + kBlock), width = n - begin;
    for (std::size_t p = begin; p < end; ++p) {
      T* row = factor.data() + (p - begin) * width;
      std::fill_n(row, p - begin, T{0});
      row[p - begin] = 1;
      std::copy(system.factor().row(p) + p + 1, system.factor().row(p) + n, row + p - begin + 1);
    }
    multiply(end - begin, rows, width, factor.data(), e.row(begin), product.data());
    for (std::size_t p = begin; p < end; ++p) {
      const T* y = product.row(p - begin);
      const double pivot = system.pivots()[p];
      for (std::size_t r = 0; r < rows; ++r) sum[r] += pivot * y[r] * y[r];
    }
  }
  return sum;
}

}  // namespace

std::vector<double> evaluate_objective(const LayerSystem& system, MatrixView<const float> error) {
  return objective_in<double>(system, error);
}

std::vector<double> estimate_objective(const LayerSystem& system, MatrixView<const float> error) {
  return objective_in<float>(system, error);
}

double output_energy(const LayerSystem& system, MatrixView<const float> rows) {
  double sum = 0;
  for (const double v : estimate_objective(system, rows)) sum += v;
  for (std::size_t p = 0; p < rows.rows; ++p) {
    for (std::size_t r = 0; r < rows.cols; ++r) sum -= system.report().damping * rows(p, r) * rows(p, r);
  }
  return std::max(sum, 0.0);
}

}  // namespace neap
