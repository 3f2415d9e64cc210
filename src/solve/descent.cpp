#include "solve/descent.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/multiversion.h"
#include "base/parallel.h"
#include "solve/snap.h"

namespace neap {
namespace {

// Positions whose gradients are turned to stand by position: a cache line of a row's gradient.
constexpr std::size_t kBlock = 16;
// A step d of a coordinate whose optimum lies at distance x gains a d (2 x - d): it is taken if 2 |x| exceeds
// |d| by this share of the scale, which is far above the rounding of x.
constexpr float kLeastGain = 0x1p-10f;

// One coordinate of every row. gradient: (A e)_i. Writes what the error changes by, 0 where nothing moves;
// returns whether anything does.
NEAP_MULTIVERSION
bool propose_steps(const float* gradient, float curvature, const float* scale, const float* zero,
                   float highest, std::size_t rows, const std::uint8_t* code, float* step) {
  int moves = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const auto c = static_cast<float>(code[r]);
    const float wish = gradient[r] / curvature;  // to the unconstrained optimum
    const float next = nearest_code(scale[r] * (c - zero[r]) + wish, scale[r], zero[r], highest);
    const float d = scale[r] * (next - c);
    const bool gains = d * (2 * wish - d) > kLeastGain * scale[r] * std::abs(d);
    step[r] = gains ? -d : 0.0f;
    moves += gains;
  }
  return moves > 0;
}

NEAP_MULTIVERSION
void add_scaled(float factor, const float* from, std::size_t count, float* __restrict to) {
  for (std::size_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

class Descent {
 public:
  Descent(const LayerSystem& system, const TileGrid& grid, MatrixView<const float> target,
          MatrixView<std::uint8_t> codes)
      : metric_(system.metric()),
        grid_(grid),
        codes_(codes),
        n_(target.rows),
        rows_(target.cols),
        error_(n_, rows_),
        gradient_(rows_, n_),
        block_(kBlock, rows_),
        step_(rows_) {
    subtract_weights(grid, codes, target, error_);
  }

  DescentResult run(int sweeps) {
    bool fresh = true;
    compute_gradient();
    for (int s = 0; s < sweeps; ++s) {
      ++result_.sweeps;
      moved_.assign(rows_, 0);
      if (sweep()) {
        fresh = false;
        result_.unsettled_rows = std::count(moved_.begin(), moved_.end(), 1);
        continue;
      }
      result_.unsettled_rows = 0;
      if (fresh) break;
      compute_gradient();
      fresh = true;
    }
    return result_;
  }

 private:
  void compute_gradient() {
    ++result_.gradients;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows_, n_, n_, 1, error_.data(), rows_,
                metric_.data, metric_.stride, 0, gradient_.data(), n_);
  }

  bool sweep() {
    const std::int64_t before = result_.moves;
    for (std::size_t end = n_; end > 0;) {
      const std::size_t begin = (end - 1) / kBlock * kBlock;
      load_block(begin, end);
      for (std::size_t p = end; p-- > begin;) {
        if (propose_steps(block_.row(p - begin), metric_(p, p), grid_.scale(p), grid_.zero(p),
                          grid_.highest(), rows_, codes_.row(p), step_.data())) {
          take_steps(p, begin);
        }
      }
      end = begin;
    }
    return result_.moves > before;
  }

  void load_block(std::size_t begin, std::size_t end) {
    for (std::size_t r = 0; r < rows_; ++r) {
      const float* from = gradient_.row(r) + begin;
      for (std::size_t k = 0; k < end - begin; ++k) block_(k, r) = from[k];
    }
  }

  void take_steps(std::size_t p, std::size_t begin) {
    const float* curvature = metric_.row(p);
    for (std::size_t r = 0; r < rows_; ++r) {
      const float step = step_[r];
      if (step == 0) continue;
      ++result_.moves;
      moved_[r] = 1;
      error_(p, r) += step;
      const float change = -step / grid_.scale(p)[r];
      codes_(p, r) = static_cast<std::uint8_t>(codes_(p, r) + static_cast<int>(std::nearbyint(change)));
      add_scaled(step, curvature, n_, gradient_.row(r));
      for (std::size_t q = begin; q < p; ++q) block_(q - begin, r) += step * curvature[q];
    }
  }

  MatrixView<const float> metric_;
  const TileGrid& grid_;
  MatrixView<std::uint8_t> codes_;
  std::size_t n_, rows_;
  Matrix<float> error_;     // (positions, rows), target - weight
  Matrix<float> gradient_;  // (rows, positions), so that a move adds one row of A to one row
  Matrix<float> block_;     // of the gradient, turned
  std::vector<float> step_;
  std::vector<std::uint8_t> moved_;
  DescentResult result_;
};

}  // namespace

DescentResult descend_tile(const LayerSystem& system, const TileGrid& grid,
                           MatrixView<const float> target, MatrixView<std::uint8_t> codes,
                           int sweeps) {
  const ThreadScope serial(1);
  return Descent(system, grid, target, codes).run(sweeps);
}

}  // namespace neap
