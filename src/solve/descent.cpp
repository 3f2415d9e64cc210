#include "solve/descent.h"

#include <cblas.h>

#include <algorithm>
#include <vector>

#include "base/multiversion.h"
#include "base/parallel.h"
#include "solve/snap.h"

namespace neap {
namespace {

constexpr std::size_t kBlock = 64, kSubBlock = 8;
// A step d of a coordinate whose optimum lies at distance x gains a d (2 x - d): it is taken if 2 |x| exceeds
// |d| by this share of the scale, which is far above the rounding of x.
constexpr float kLeastGain = 0x1p-10f;

// One coordinate of every row. gradient: (A e)_i. Writes what the error changes by; returns how many moved.
NEAP_MULTIVERSION
std::int64_t step_row(const float* gradient, float curvature, const float* scale, const float* zero,
                      float highest, std::size_t rows, float* code, float* error, float* step,
                      std::uint8_t* moved) {
  std::int64_t moves = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const float wish = gradient[r] / curvature;  // to the unconstrained optimum
    const float now = scale[r] * (code[r] - zero[r]);
    const float next_code = nearest_code(now + wish, scale[r], zero[r], highest);
    const float d = scale[r] * (next_code - code[r]);
    const bool gains = d * (2 * wish - d) > kLeastGain * scale[r] * std::abs(d);
    step[r] = gains ? -d : 0;
    code[r] = gains ? next_code : code[r];
    error[r] += step[r];
    moved[r] |= gains;
    moves += gains;
  }
  return moves;
}

// The rows of a tile that still move, side by side.
class Descent {
 public:
  Descent(const LayerSystem& system, const TileGrid& grid, MatrixView<const float> target,
          MatrixView<std::uint8_t> codes)
      : system_(system), all_(grid), grid_(grid), target_(target), codes_(codes), n_(target.rows) {
    for (std::size_t r = 0; r < target.cols; ++r) rows_.push_back(r);
    gather();
  }

  DescentResult run(int sweeps) {
    for (int s = 0; s < sweeps && !rows_.empty(); ++s) {
      ++result_.sweeps;
      result_.row_sweeps += static_cast<std::int64_t>(rows_.size());
      std::fill(moved_.begin(), moved_.end(), std::uint8_t{0});
      for (std::size_t end = n_; end > 0;) {
        const std::size_t begin = (end - 1) / kBlock * kBlock;
        compute_gradient(begin, end);
        sweep_block(begin, end);
        end = begin;
      }
      keep_moving_rows();
    }
    result_.unsettled_rows = static_cast<std::int64_t>(rows_.size());
    scatter();
    return result_;
  }

 private:
  // Columns of the rows in rows_: codes as floats, errors afresh, the grid.
  void gather() {
    const std::size_t width = rows_.size();
    code_ = Matrix<float>(n_, width);
    error_ = Matrix<float>(n_, width);
    gradient_ = Matrix<float>(kBlock, width);
    step_ = Matrix<float>(kSubBlock, width);
    moved_.assign(width, 0);
    for (std::size_t p = 0; p < n_; ++p) {
      for (std::size_t k = 0; k < width; ++k) {
        code_(p, k) = codes_(p, rows_[k]);
        error_(p, k) = target_(p, rows_[k]) - grid_.scale(p)[k] * (code_(p, k) - grid_.zero(p)[k]);
      }
    }
  }

  void scatter() {
    for (std::size_t p = 0; p < n_; ++p) {
      for (std::size_t k = 0; k < rows_.size(); ++k) {
        codes_(p, rows_[k]) = static_cast<std::uint8_t>(code_(p, k));
      }
    }
  }

  void keep_moving_rows() {
    scatter();
    std::vector<std::size_t> moving;
    for (std::size_t k = 0; k < rows_.size(); ++k) {
      if (moved_[k]) moving.push_back(rows_[k]);
    }
    if (moving.size() == rows_.size()) return;
    rows_ = std::move(moving);
    grid_ = all_.select(rows_);
    gather();
  }

  // (A e) of positions [begin, end), from the lower triangle of A.
  void compute_gradient(std::size_t begin, std::size_t end) {
    const auto& packed = system_.packed();
    const std::size_t width = rows_.size(), count = end - begin;
    load_diagonal_block(begin, count);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, count, width, count, 1,
                diagonal_.data(), kBlock, error_.row(begin), width, 0, gradient_.data(), width);
    if (begin > 0) {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, count, width, begin, 1,
                  packed.row(begin), packed.stride, error_.data(), width, 1, gradient_.data(),
                  width);
    }
    if (end < n_) {
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, count, width, n_ - end, 1,
                  packed.row(end) + begin, packed.stride, error_.row(end), width, 1,
                  gradient_.data(), width);
    }
  }

  void load_diagonal_block(std::size_t begin, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t j = 0; j <= i; ++j) {
        diagonal_(i, j) = diagonal_(j, i) = system_.packed()(begin + i, begin + j);
      }
    }
  }

  void sweep_block(std::size_t begin, std::size_t end) {
    const std::size_t width = rows_.size();
    for (std::size_t sub_end = end - begin; sub_end > 0;) {
      const std::size_t sub_begin = (sub_end - 1) / kSubBlock * kSubBlock;
      std::int64_t moves = 0;
      for (std::size_t i = sub_end; i-- > sub_begin;) {
        const std::size_t p = begin + i;
        float* step = step_.row(i - sub_begin);
        const std::int64_t here =
            step_row(gradient_.row(i), diagonal_(i, i), grid_.scale(p), grid_.zero(p),
                     grid_.highest(), width, code_.row(p), error_.row(p), step, moved_.data());
        moves += here;
        if (here > 0) push(i, i + 1, sub_begin, step);
      }
      if (moves > 0) push(sub_begin, sub_end, 0, step_.data());
      result_.moves += moves;
      sub_end = sub_begin;
    }
  }

  // Steps of [from, to) change the gradients of [first, from), all within the block.
  void push(std::size_t from, std::size_t to, std::size_t first, const float* step) {
    if (first == from) return;
    const std::size_t width = rows_.size();
    carry_back(diagonal_.view().block(first, from, from - first, to - from),
               {step, to - from, width}, gradient_.view().block(first, 0, from - first, width));
  }

  const LayerSystem& system_;
  const TileGrid& all_;
  TileGrid grid_;  // of the rows that still move
  MatrixView<const float> target_;
  MatrixView<std::uint8_t> codes_;
  std::size_t n_;
  std::vector<std::size_t> rows_;  // of the tile, by column
  Matrix<float> code_, error_;
  Matrix<float> diagonal_{kBlock, kBlock}, gradient_, step_;
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
