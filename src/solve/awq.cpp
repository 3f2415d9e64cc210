#include "solve/awq.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "neap/check.h"
#include "solve/snap.h"

namespace neap {
namespace {

constexpr int kPoints = 20;
constexpr std::size_t kRowsPerTile = 64;
constexpr float kLeastScale = 1e-4f;

// Rounds on `grid`; values: (rows of the grid, cols).
void round_in_place(const Grid& grid, MatrixView<float> values) {
  const auto highest = static_cast<float>(grid.highest());
  for (std::size_t r = 0; r < values.rows; ++r) {
    for (std::size_t c = 0; c < values.cols; ++c) {
      const std::size_t g = c / grid.group_width();
      const float scale = grid.scales(r, g), zero = grid.zeros(r, g);
      values(r, c) = scale * (nearest_code(values(r, c), scale, zero, highest) - zero);
    }
  }
}

// e H e' of each row e.
std::vector<double> quadratic_forms(MatrixView<const float> error, MatrixView<const float> gram) {
  Matrix<float> product(error.rows, error.cols);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, error.rows, error.cols, error.cols, 1,
              error.data, error.stride, gram.data, gram.stride, 0, product.data(), error.cols);
  std::vector<double> sums(error.rows);
  for (std::size_t r = 0; r < error.rows; ++r) {
    for (std::size_t c = 0; c < error.cols; ++c) {
      sums[r] += static_cast<double>(product(r, c)) * error(r, c);
    }
  }
  return sums;
}

// Geometric mean of the largest and the smallest is 1, as the authors have it.
std::vector<float> scales_at(std::span<const float> magnitudes, double exponent) {
  std::vector<float> scales;
  for (const float m : magnitudes) {
    scales.push_back(std::max(static_cast<float>(std::pow(m, exponent)), kLeastScale));
  }
  const auto [low, high] = std::minmax_element(scales.begin(), scales.end());
  const float middle = std::sqrt(*low * *high);
  for (float& s : scales) s /= middle;
  return scales;
}

double rounding_error(const AwqLayer& layer, MatrixView<const float> gram,
                      const std::vector<float>& scales) {
  const std::size_t n = layer.weight.cols;
  std::vector<double> sums((layer.weight.rows + kRowsPerTile - 1) / kRowsPerTile);
  parallel_for(sums.size(), [&](std::size_t tile) {
    const ThreadScope serial(1);
    const std::size_t first = tile * kRowsPerTile;
    const auto weight =
        layer.weight.row_range(first, std::min(kRowsPerTile, layer.weight.rows - first));
    Matrix<float> error(weight.rows, n);
    for (std::size_t r = 0; r < weight.rows; ++r) {
      for (std::size_t c = 0; c < n; ++c) error(r, c) = weight(r, c) * scales[c];
    }
    round_in_place(make_grid(error, layer.layout, GridSearch::range), error);
    for (std::size_t r = 0; r < weight.rows; ++r) {
      for (std::size_t c = 0; c < n; ++c) error(r, c) = error(r, c) / scales[c] - weight(r, c);
    }
    for (const double v : quadratic_forms(error, gram)) sums[tile] += v;
  });
  double total = 0;
  for (const double v : sums) total += v;
  return total;
}

// One group of a tile of rows: its best clipped grids, written to columns `g` of `grid`.
void clip_group(MatrixView<const float> gram, MatrixView<const float> weight, std::size_t first,
                std::size_t g, Grid& grid) {
  GroupLayout whole = grid.layout;
  whole.group = 0;
  std::vector<double> least(weight.rows, std::numeric_limits<double>::infinity());
  for (int point = 0; point < kPoints; ++point) {
    const float share = 1 - 0.5f * static_cast<float>(point) / kPoints;
    Matrix<float> error(weight.rows, weight.cols);
    for (std::size_t r = 0; r < weight.rows; ++r) {
      float most = 0;
      for (std::size_t c = 0; c < weight.cols; ++c) most = std::max(most, std::abs(weight(r, c)));
      for (std::size_t c = 0; c < weight.cols; ++c) {
        error(r, c) = std::clamp(weight(r, c), -share * most, share * most);
      }
    }
    const Grid clipped = make_grid(error, whole, GridSearch::range);
    // Judged as it will be used: the weight itself goes to the nearest point of the clipped grid.
    for (std::size_t r = 0; r < weight.rows; ++r) std::copy_n(weight.row(r), weight.cols, error.row(r));
    round_in_place(clipped, error);
    for (std::size_t r = 0; r < weight.rows; ++r) {
      for (std::size_t c = 0; c < weight.cols; ++c) error(r, c) -= weight(r, c);
    }
    const std::vector<double> errors = quadratic_forms(error, gram);
    for (std::size_t r = 0; r < weight.rows; ++r) {
      if (errors[r] >= least[r]) continue;
      least[r] = errors[r];
      grid.scales(first + r, g) = clipped.scales(r, 0);
      grid.zeros(first + r, g) = clipped.zeros(r, 0);
    }
  }
}

}  // namespace

AwqScales search_awq_scales(MatrixView<const float> gram, std::span<const float> magnitudes,
                            std::span<const AwqLayer> layers) {
  NEAP_CHECK(gram.rows == magnitudes.size() && gram.cols == magnitudes.size());
  AwqScales best;
  best.error = std::numeric_limits<double>::infinity();
  for (int point = 0; point < kPoints; ++point) {
    const double exponent = static_cast<double>(point) / kPoints;
    std::vector<float> scales = scales_at(magnitudes, exponent);
    double error = 0;
    for (const AwqLayer& layer : layers) error += rounding_error(layer, gram, scales);
    if (point == 0) best.error_plain = error;
    if (error >= best.error) continue;
    best.error = error;
    best.exponent = exponent;
    best.scales = std::move(scales);
  }
  return best;
}

Grid search_awq_clip(MatrixView<const float> gram, MatrixView<const float> weight,
                     const GroupLayout& layout) {
  NEAP_CHECK(gram.rows == weight.cols && gram.cols == weight.cols);
  Grid grid = make_grid(weight, layout, GridSearch::range);
  const std::size_t groups = grid.scales.cols(), width = grid.group_width();
  const std::size_t tiles = (weight.rows + kRowsPerTile - 1) / kRowsPerTile;
  parallel_for(tiles * groups, [&](std::size_t job) {
    const ThreadScope serial(1);
    const std::size_t first = job / groups * kRowsPerTile, g = job % groups;
    const std::size_t rows = std::min(kRowsPerTile, weight.rows - first);
    const std::size_t column = g * width, cols = std::min(width, weight.cols - column);
    clip_group(gram.block(column, column, cols, cols), weight.block(first, column, rows, cols),
               first, g, grid);
  });
  return grid;
}

}  // namespace neap
