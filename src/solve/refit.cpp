#include "solve/refit.h"

#include <cblas.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "base/parallel.h"
#include "solve/tile.h"

namespace neap {
namespace {

// A step gains g of the q that its own square costs: it is taken if g exceeds this share of q, which is far above
// the rounding of the gradient.
constexpr double kLeastGain = 0x1p-10;

struct Knobs {
  float scale, zero;
};

// A group's part of the objective around where it stands, v = code - zero. Moving its weights by
// ds v + dw lowers the objective by 2 (ds along + dw total) - (ds^2 steep + 2 ds dw mixed + dw^2 flat).
struct Quadratic {
  double along = 0, total = 0;              // v'g and 1'g, g the gradient A (t - w^) of the group
  double steep = 0, mixed = 0, flat = 0;    // v'Av, v'A1, 1'A1 within the group
  double scale = 0, zero = 0;               // where it stands

  struct Step {
    double by_code, by_one;  // ds, dw
  };
  Step step_to(Knobs k) const { return {k.scale - scale, k.scale * (zero - k.zero)}; }
  double cost(Step s) const {
    return s.by_code * s.by_code * steep + 2 * s.by_code * s.by_one * mixed + s.by_one * s.by_one * flat;
  }
  double gain(Step s) const { return 2 * (s.by_code * along + s.by_one * total) - cost(s); }

  // The best scale for a zero that lies `shift` lower: weights scale (v + shift).
  double scale_for(double shift) const {
    const double square = steep + 2 * shift * mixed + shift * shift * flat;
    return (along + shift * total + scale * (steep + shift * mixed)) / square;
  }
};

Knobs with_minimum(const Quadratic& q, double scale) {
  const float stored = half_scale(static_cast<float>(scale));
  const double by_code = stored - q.scale, by_one = (q.total - by_code * q.mixed) / q.flat;
  // Weights are stored (code - zero) + by_one: that is what code 0 stands for.
  return {stored, -half_minimum(static_cast<float>(by_one - stored * q.zero)) / stored};
}

// The stored numbers nearest to the group's best ones, if there are any.
std::array<std::optional<Knobs>, 3> candidates(const Quadratic& q, const Grid& grid) {
  std::array<std::optional<Knobs>, 3> list;
  if (grid.form == GridForm::half_minimum) {
    const double determinant = q.steep * q.flat - q.mixed * q.mixed;
    const double scale = q.scale + (q.along * q.flat - q.total * q.mixed) / determinant;
    if (determinant > 0 && scale > 0) list[0] = with_minimum(q, scale);
    return list;
  }
  const bool shifts = grid.form == GridForm::zero_points && !grid.layout.symmetric;
  for (const int shift : {0, -1, 1}) {
    const double zero = q.zero - shift, scale = q.scale_for(shift);
    if ((shift != 0 && !shifts) || zero < 0 || zero > grid.highest() || !(scale > 0)) continue;
    const auto rounded = static_cast<float>(scale);
    list[static_cast<std::size_t>(shift + 1)] =
        Knobs{grid.form == GridForm::zero_points ? portable_scale(rounded) : half_scale(rounded),
              static_cast<float>(zero)};
  }
  return list;
}

class Refit {
 public:
  Refit(const LayerSystem& system, Grid& grid, std::size_t first, MatrixView<const float> target,
        MatrixView<const std::uint8_t> codes)
      : metric_(system.metric()),
        grid_(grid),
        first_(first),
        target_(target),
        codes_(codes),
        input_at_(system.input_at()),
        n_(target.rows),
        rows_(target.cols),
        positions_(grid.scales.cols()),
        gradient_(rows_, n_) {
    for (std::size_t p = 0; p < n_; ++p) positions_[input_at_[p] / grid.group_width()].push_back(p);
  }

  std::int64_t run(int sweeps) {
    std::int64_t moves = 0;
    for (int s = 0; s < sweeps; ++s) {
      const std::int64_t before = moves;
      compute_gradient();
      for (std::size_t g = 0; g < positions_.size(); ++g) moves += refit_group(g);
      if (moves == before) break;
    }
    return moves;
  }

 private:
  void compute_gradient() {
    Matrix<float> error(n_, rows_);
    subtract_weights(TileGrid(grid_, first_, rows_, input_at_), codes_, target_, error);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows_, n_, n_, 1, error.data(), rows_, metric_.data,
                metric_.stride, 0, gradient_.data(), n_);
  }

  std::int64_t refit_group(std::size_t g) {
    const auto& positions = positions_[g];
    const std::size_t width = positions.size();
    Matrix<float> panel(width, n_), core(width, width), levels(rows_, width), products(rows_, width);
    double flat = 0;
    for (std::size_t i = 0; i < width; ++i) {
      std::copy_n(metric_.row(positions[i]), n_, panel.row(i));
      for (std::size_t j = 0; j < width; ++j) flat += core(i, j) = metric_(positions[i], positions[j]);
      for (std::size_t r = 0; r < rows_; ++r) {
        levels(r, i) = static_cast<float>(codes_(positions[i], r)) - grid_.zeros(first_ + r, g);
      }
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows_, width, width, 1, levels.data(), width,
                core.data(), width, 0, products.data(), width);
    std::int64_t moves = 0;
    for (std::size_t r = 0; r < rows_; ++r) {
      Quadratic q{.flat = flat, .scale = grid_.scales(first_ + r, g), .zero = grid_.zeros(first_ + r, g)};
      for (std::size_t i = 0; i < width; ++i) {
        const double level = levels(r, i), slope = gradient_(r, positions[i]);
        q.along += level * slope;
        q.total += slope;
        q.steep += level * products(r, i);
        q.mixed += products(r, i);
      }
      moves += take_best(q, g, r, levels);
    }
    if (moves > 0) {  // levels are now the changes of the weights
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows_, n_, width, -1, levels.data(), width,
                  panel.data(), n_, 1, gradient_.data(), n_);
    }
    return moves;
  }

  // Turns a row of levels into what its weights change by.
  bool take_best(const Quadratic& q, std::size_t g, std::size_t r, Matrix<float>& levels) {
    std::optional<Knobs> best;
    double most = 0;
    for (const auto& knobs : candidates(q, grid_)) {
      if (!knobs) continue;
      const auto step = q.step_to(*knobs);
      const double gain = q.gain(step);
      if (gain <= most || gain <= kLeastGain * q.cost(step)) continue;
      most = gain;
      best = knobs;
    }
    const auto step = best ? q.step_to(*best) : Quadratic::Step{0, 0};
    for (std::size_t i = 0; i < levels.cols(); ++i) {
      levels(r, i) = static_cast<float>(step.by_code * levels(r, i) + step.by_one);
    }
    if (!best) return false;
    grid_.scales(first_ + r, g) = best->scale;
    grid_.zeros(first_ + r, g) = best->zero;
    return true;
  }

  MatrixView<const float> metric_;
  Grid& grid_;
  std::size_t first_;
  MatrixView<const float> target_;
  MatrixView<const std::uint8_t> codes_;
  const std::vector<std::uint32_t>& input_at_;
  std::size_t n_, rows_;
  std::vector<std::vector<std::size_t>> positions_;  // by group
  Matrix<float> gradient_;                            // (rows, positions): A (t - w^)
};

}  // namespace

std::int64_t refit_tile(const LayerSystem& system, Grid& grid, std::size_t first,
                        MatrixView<const float> target, MatrixView<const std::uint8_t> codes, int sweeps) {
  const ThreadScope serial(1);
  return Refit(system, grid, first, target, codes).run(sweeps);
}

}  // namespace neap
