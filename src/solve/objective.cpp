#include "solve/objective.h"

#include <cblas.h>

#include <algorithm>

#include "base/parallel.h"

namespace neap {

std::vector<double> evaluate_objective(const LayerSystem& system, MatrixView<const float> error) {
  constexpr std::size_t kBlock = 64;
  const ThreadScope serial(1);
  const std::size_t n = error.rows, rows = error.cols;
  Matrix<double> e(n, rows), factor(kBlock, n), product(kBlock, rows);
  for (std::size_t p = 0; p < n; ++p) std::copy_n(error.row(p), rows, e.row(p));
  std::vector<double> sum(rows);
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    const std::size_t end = std::min(n, begin + kBlock), width = n - begin;
    for (std::size_t p = begin; p < end; ++p) {
      double* row = factor.row(p - begin);
      std::fill_n(row, p - begin, 0.0);
      row[p - begin] = 1;
      std::copy(system.packed().row(p) + p + 1, system.packed().row(p) + n, row + p - begin + 1);
    }
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, end - begin, rows, width, 1,
                factor.data(), n, e.row(begin), rows, 0, product.data(), rows);
    for (std::size_t p = begin; p < end; ++p) {
      const double* y = product.row(p - begin);
      for (std::size_t r = 0; r < rows; ++r) sum[r] += system.pivots()[p] * y[r] * y[r];
    }
  }
  return sum;
}

}  // namespace neap
