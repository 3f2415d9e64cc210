#include "solve/gptaq.h"

#include <cblas.h>

#include <algorithm>

#include "base/parallel.h"
#include "solve/snap.h"

namespace neap {
namespace {

constexpr float kShare = 0.25f;
constexpr std::size_t kBlock = 128;
constexpr std::size_t kRowsPerTile = 64;

}  // namespace

Matrix<float> gptaq_correction(const LayerSystem& system, MatrixView<const float> drift) {
  const std::size_t n = system.inputs();
  const auto& input_at = system.input_at();
  Matrix<float> p(n, n);
  parallel_for((n + kRowsPerTile - 1) / kRowsPerTile, [&](std::size_t tile) {
    const ThreadScope serial(1);
    const std::size_t first = tile * kRowsPerTile, rows = std::min(kRowsPerTile, n - first);
    for (std::size_t i = first; i < first + rows; ++i) {
      for (std::size_t j = 0; j < n; ++j) p(i, j) = kShare * drift(input_at[j], input_at[i]);
    }
    cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans, CblasUnit, rows, n, 1,
                system.factor().data, n, p.row(first), n);
    for (std::size_t i = first; i < first + rows; ++i) {
      for (std::size_t j = 0; j < i; ++j) p(i, j) /= system.pivots()[j];
      std::fill(p.row(i) + i, p.row(i) + n, 0.0f);
    }
    cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasUnit, rows, n, 1,
                system.factor().data, n, p.row(first), n);
  });
  return p;
}

void gptaq_walk_tile(const LayerSystem& system, const TileGrid& grid,
                     MatrixView<const float> weight, MatrixView<std::uint8_t> codes) {
  const ThreadScope serial(1);
  const std::size_t n = weight.rows, rows = weight.cols;
  const auto factor = system.factor(), correction = system.masked_correction();
  // A correction of an input that is still to be decided is a change of its target, so that the walk is
  // Babai's with targets that move.
  Matrix<float> target(n, rows), error(n, rows), corrects(n, rows), carry(kBlock, rows);
  for (std::size_t p = 0; p < n; ++p) std::copy_n(weight.row(p), rows, target.row(p));
  for (std::size_t end = n; end > 0;) {
    const std::size_t begin = end > kBlock ? end - kBlock : 0, count = end - begin;
    std::fill_n(carry.data(), kBlock * rows, 0.0f);
    if (end < n) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, count, rows, n - end, 1,
                  factor.row(begin) + end, factor.stride, error.row(end), rows, 0, carry.data(),
                  rows);
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, count, rows, n - end, 1,
                  correction.row(end) + begin, correction.stride, corrects.row(end), rows, 1,
                  target.row(begin), rows);
    }
    for (std::size_t p = end; p-- > begin;) {
      const float *scale = grid.scale(p), *zero = grid.zero(p);
      for (std::size_t r = 0; r < rows; ++r) {
        const float centre = target(p, r) + carry(p - begin, r);
        const float code = nearest_code(centre, scale[r], zero[r], grid.highest());
        codes(p, r) = static_cast<std::uint8_t>(code);
        error(p, r) = target(p, r) - scale[r] * (code - zero[r]);
        corrects(p, r) = centre;
      }
      for (std::size_t j = begin; j < p; ++j) {
        cblas_saxpy(rows, factor(j, p), error.row(p), 1, carry.row(j - begin), 1);
        cblas_saxpy(rows, correction(p, j), corrects.row(p), 1, target.row(j), 1);
      }
    }
    for (std::size_t p = begin; p < end; ++p) {
      for (std::size_t r = 0; r < rows; ++r) {
        corrects(p, r) = grid.scale(p)[r] * (static_cast<float>(codes(p, r)) - grid.zero(p)[r]);
      }
    }
    end = begin;
  }
}

}  // namespace neap
