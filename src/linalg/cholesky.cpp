#include "linalg/cholesky.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/parallel.h"

namespace neap {
namespace {

constexpr std::size_t kTile = 256;
constexpr std::size_t kSolveBlock = 64;

// Row panel k of R: R_kj = R_kk^-T A_kj for every tile j right of the diagonal.
void solve_panel(MatrixView<float> a, std::size_t k, std::size_t width) {
  const std::size_t first = k + width;
  if (first == a.cols) return;
  parallel_for((a.cols - first + kTile - 1) / kTile, [&](std::size_t tile) {
    const ThreadScope serial(1);
    const std::size_t j = first + tile * kTile, cols = std::min(kTile, a.cols - j);
    cblas_strsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, width, cols, 1,
                a.row(k) + k, a.stride, a.row(k) + j, a.stride);
  });
}

// A_ij -= R_ki' R_kj for every tile of the upper triangle that is left.
void update_rest(MatrixView<float> a, std::size_t k, std::size_t width) {
  std::vector<std::pair<std::size_t, std::size_t>> tiles;
  for (std::size_t i = k + width; i < a.cols; i += kTile) {
    for (std::size_t j = i; j < a.cols; j += kTile) tiles.emplace_back(i, j);
  }
  parallel_for(tiles.size(), [&](std::size_t tile) {
    const ThreadScope serial(1);
    const auto [i, j] = tiles[tile];
    const std::size_t rows = std::min(kTile, a.cols - i), cols = std::min(kTile, a.cols - j);
    if (i == j) {
      cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, rows, width, -1, a.row(k) + i, a.stride, 1,
                  a.row(i) + i, a.stride);
    } else {
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows, cols, width, -1, a.row(k) + i,
                  a.stride, a.row(k) + j, a.stride, 1, a.row(i) + j, a.stride);
    }
  });
}

// Zero, or one more than the position of the failing pivot.
std::size_t factor_diagonal_tile(MatrixView<float> a, std::size_t k, std::size_t width) {
  const ThreadScope serial(1);
  // Upper in rows is lower in columns; LAPACKE would copy to turn it around.
  return static_cast<std::size_t>(
      LAPACKE_spotrf_work(LAPACK_COL_MAJOR, 'L', static_cast<lapack_int>(width), a.row(k) + k,
                          static_cast<lapack_int>(a.stride)));
}

}  // namespace

std::size_t cholesky_upper(MatrixView<float> a) {
  NEAP_CHECK(a.rows == a.cols);
  for (std::size_t k = 0; k < a.cols; k += kTile) {
    const std::size_t width = std::min(kTile, a.cols - k);
    const std::size_t failed = factor_diagonal_tile(a, k, width);
    if (failed != 0) return k + failed - 1;
    solve_panel(a, k, width);
    update_rest(a, k, width);
  }
  return a.cols;
}

void solve_unit_upper(MatrixView<const float> n, MatrixView<float> x) {
  const ThreadScope serial(1);
  for (std::size_t end = n.rows; end > 0;) {
    const std::size_t begin = (end - 1) / kSolveBlock * kSolveBlock, count = end - begin;
    if (end < n.rows) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, count, x.cols, n.rows - end, -1,
                  n.row(begin) + end, n.stride, x.row(end), x.stride, 1, x.row(begin), x.stride);
    }
    cblas_strsm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasUnit, count, x.cols, 1,
                n.row(begin) + begin, n.stride, x.row(begin), x.stride);
    end = begin;
  }
}

void solve_unit_upper_transposed(MatrixView<const float> n, MatrixView<float> x) {
  const ThreadScope serial(1);
  for (std::size_t begin = 0; begin < n.rows; begin += kSolveBlock) {
    const std::size_t count = std::min(kSolveBlock, n.rows - begin);
    if (begin > 0) {
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, count, x.cols, begin, -1, n.data + begin,
                  n.stride, x.data, x.stride, 1, x.row(begin), x.stride);
    }
    cblas_strsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasUnit, count, x.cols, 1,
                n.row(begin) + begin, n.stride, x.row(begin), x.stride);
  }
}

}  // namespace neap
