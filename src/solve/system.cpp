#include "solve/system.h"

#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "linalg/cholesky.h"
#include "neap/error.h"
#include "solve/gptaq.h"

namespace neap {
namespace {

constexpr std::size_t kRowsPerTile = 64;
constexpr double kFirstRaisedRidge = 1e-6;

void for_rows(std::size_t rows, const std::function<void(std::size_t)>& body) {
  parallel_for((rows + kRowsPerTile - 1) / kRowsPerTile, [&](std::size_t tile) {
    const std::size_t end = std::min(rows, (tile + 1) * kRowsPerTile);
    for (std::size_t r = tile * kRowsPerTile; r < end; ++r) body(r);
  });
}

void require_finite(MatrixView<const float> matrix, const char* name) {
  for_rows(matrix.rows, [&](std::size_t r) {
    const auto row = matrix.row_span(r);
    const bool finite = std::all_of(row.begin(), row.end(), [](float v) { return std::isfinite(v); });
    if (!finite) {
      throw Error(ErrorCode::data, std::string(name) + " of the layer's inputs is not finite",
                  {.found = "row " + std::to_string(r)});
    }
  });
}

double mean_diagonal(MatrixView<const float> gram) {
  double sum = 0;
  for (std::size_t i = 0; i < gram.rows; ++i) sum += gram(i, i);
  return sum / static_cast<double>(gram.rows);
}

std::vector<std::uint32_t> decide_order(MatrixView<const float> gram, Order order, std::size_t block) {
  std::vector<std::uint32_t> input_at(gram.rows);
  std::iota(input_at.begin(), input_at.end(), 0u);
  if (order == Order::first_to_last) std::reverse(input_at.begin(), input_at.end());
  if (order == Order::gram_diagonal) {
    std::vector<double> energy((gram.rows + block - 1) / block);
    for (std::size_t i = 0; i < gram.rows; ++i) energy[i / block] += gram(i, i);
    std::stable_sort(input_at.begin(), input_at.end(), [&](std::uint32_t a, std::uint32_t b) {
      const std::size_t i = a / block, j = b / block;
      if (i == j) return gram(a, a) < gram(b, b);
      return energy[i] != energy[j] ? energy[i] < energy[j] : i < j;
    });
  }
  return input_at;
}

// Both triangles of H by position.
void permute(MatrixView<const float> gram, const std::vector<std::uint32_t>& input_at,
             MatrixView<float> out) {
  for_rows(gram.rows, [&](std::size_t p) {
    const float* from = gram.row(input_at[p]);
    for (std::size_t q = 0; q < gram.cols; ++q) out(p, q) = from[input_at[q]];
  });
}

// A factor whose pivots vanish beside the diagonal is rounding noise, though LAPACK may accept it.
bool pivots_are_sound(MatrixView<const float> a, const std::vector<double>& diagonal, double damping) {
  for (std::size_t i = 0; i < a.rows; ++i) {
    const double pivot = static_cast<double>(a(i, i)) * a(i, i);
    if (!(pivot > std::max(0.25 * damping, 1e-6 * diagonal[i]))) return false;
  }
  return true;
}

}  // namespace

LayerSystem::LayerSystem(MatrixView<const float> gram, MatrixView<const float> drift,
                         const SystemOptions& options)
    : options_(options) {
  const auto begin = std::chrono::steady_clock::now();
  const std::size_t n = gram.rows;
  NEAP_CHECK(n > 0 && gram.cols == n && (drift.empty() || (drift.rows == n && drift.cols >= n)));
  if (!(options.target_mix >= 0 && options.target_mix <= 1)) {
    throw Error(ErrorCode::argument, "target mix must lie in [0, 1]",
                {.found = std::to_string(options.target_mix)});
  }
  if (!(options.ridge >= 0 && std::isfinite(options.ridge))) {
    throw Error(ErrorCode::argument, "ridge must not be negative",
                {.found = std::to_string(options.ridge)});
  }
  NEAP_CHECK(options.block > 0);
  require_finite(gram, "gram");
  require_finite(drift, "drift");
  if (options.masked_target && (options.target_mix != 1 || drift.empty())) {
    throw Error(ErrorCode::argument, "the masked target needs target mix 1 and a reference stream");
  }
  if (options.target_mix < 1) drift_ = drift;

  order_ = decide_order(gram, options.order, options.block);
  metric_ = Matrix<float>(n, n);
  permute(gram, order_, metric_);
  factorize(gram);
  invert_diagonal();
  if (options.masked_target) masked_correction_ = gptaq_correction(*this, drift);
  report_.flops = 2 * std::pow(static_cast<double>(n), 3) / 3;
  report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void LayerSystem::factorize(MatrixView<const float> gram) {
  const std::size_t n = gram.rows;
  const double mean = mean_diagonal(gram);
  // Where no input was ever seen any ridge will do: the target is the weight, the metric plain.
  const double unit = mean > 0 ? mean : 1;
  double ridge = mean > 0 ? options_.ridge : 1;
  std::vector<double> diagonal(n);
  for (;; ridge = std::max(10 * ridge, kFirstRaisedRidge)) {
    NEAP_CHECK(ridge < 1e6);  // A is then all but a multiple of the identity
    ++report_.attempts;
    for (std::size_t p = 0; p < n; ++p) {
      diagonal[p] = gram(order_[p], order_[p]) + ridge * unit;
      metric_(p, p) = static_cast<float>(diagonal[p]);
    }
    factor_ = metric_;
    if (cholesky_upper(factor_) == n && pivots_are_sound(factor_, diagonal, ridge * unit)) break;
  }
  report_.damping = ridge * unit;
  report_.relative_damping = mean > 0 ? ridge : 0;
  pivots_.resize(n);
  live_.resize(n);
  for (std::size_t p = 0; p < n; ++p) {
    const double h = gram(order_[p], order_[p]);
    live_[p] = h > report_.damping;
    report_.dead_inputs += h == 0;
    report_.near_dead_inputs += h > 0 && h <= report_.damping;
  }
  for_rows(n, [&](std::size_t p) {
    const float r = factor_(p, p);
    pivots_[p] = r * r;
    for (std::size_t q = p + 1; q < n; ++q) factor_(p, q) /= r;
  });
}

// (A^-1)_ii is the sum over k of (N^-1)_ik^2 / pivot_k.
void LayerSystem::invert_diagonal() {
  constexpr std::size_t kColumns = 128;
  const std::size_t n = inputs(), tiles = (n + kColumns - 1) / kColumns;
  Matrix<double> partial(tiles, n);
  parallel_for(tiles, [&](std::size_t tile) {
    const ThreadScope serial(1);
    const std::size_t first = tile * kColumns, end = std::min(n, first + kColumns);
    Matrix<float> inverse(end, end - first);  // what lies below is zero
    for (std::size_t k = first; k < end; ++k) inverse(k, k - first) = 1;
    solve_unit_upper(factor_.view().block(0, 0, end, end), inverse);
    for (std::size_t i = 0; i < end; ++i) {
      for (std::size_t k = first; k < end; ++k) {
        const double v = inverse(i, k - first);
        partial(tile, i) += v * v / pivots_[k];
      }
    }
  });
  conditional_gram_.resize(n);
  for (std::size_t p = 0; p < n; ++p) {
    double sum = 0;
    for (std::size_t tile = 0; tile < tiles; ++tile) sum += partial(tile, p);
    conditional_gram_[order_[p]] = static_cast<float>(1 / sum);
  }
}

std::vector<float> LayerSystem::importance() const {
  std::vector<float> weights = conditional_gram_;
  for (std::size_t p = 0; p < inputs(); ++p) weights[order_[p]] = std::sqrt(weights[order_[p]] * metric_(p, p));
  return weights;
}

void LayerSystem::to_target(MatrixView<float> tile, std::size_t first_row) const {
  if (drift_.empty()) return;
  const ThreadScope serial(1);
  const std::size_t n = inputs(), width = tile.cols;
  NEAP_CHECK(drift_.cols == n || drift_.cols >= n + first_row + width);
  Matrix<float> by_input(n, width), moved(n, width);
  for (std::size_t p = 0; p < n; ++p) std::copy_n(tile.row(p), width, by_input.row(order_[p]));
  const auto mix = static_cast<float>(1 - options_.target_mix);
  for (std::size_t i = 0; i < n && drift_.cols > n; ++i) {
    std::copy_n(drift_.row(i) + n + first_row, width, moved.row(i));
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, width, n, mix, drift_.data,
              drift_.stride, by_input.data(), width, mix, moved.data(), width);
  for (std::size_t p = 0; p < n; ++p) std::copy_n(moved.row(order_[p]), width, by_input.row(p));
  solve_unit_upper_transposed(factor_, by_input);
  for (std::size_t p = 0; p < n; ++p) {
    for (std::size_t c = 0; c < width; ++c) by_input(p, c) /= pivots_[p];
  }
  solve_unit_upper(factor_, by_input);
  for (std::size_t p = 0; p < n; ++p) {
    for (std::size_t c = 0; c < width; ++c) tile(p, c) += by_input(p, c);
  }
}

}  // namespace neap
