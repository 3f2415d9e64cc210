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

// Weights that move together: by_first times one vector u, by_second times another, v.
struct Step {
  double by_first = 0, by_second = 0;
};

// Their part of the objective around where they stand. A step lowers the objective by 2 (a u'g + b v'g) -
// (a^2 u'Au + 2 a b u'Av + b^2 v'Av), g the gradient A (t - w^).
struct Quadratic {
  double along = 0, across = 0;           // u'g and v'g
  double steep = 0, mixed = 0, flat = 0;  // u'Au, u'Av, v'Av

  double cost(Step s) const {
    return s.by_first * s.by_first * steep + 2 * s.by_first * s.by_second * mixed + s.by_second * s.by_second * flat;
  }
  double gain(Step s) const { return 2 * (s.by_first * along + s.by_second * across) - cost(s); }
  bool worth(Step s, double most) const { return gain(s) > most && gain(s) > kLeastGain * cost(s); }
  double determinant() const { return steep * flat - mixed * mixed; }

  // The best of all steps, where u and v differ.
  Step best() const {
    return {(along * flat - across * mixed) / determinant(), (across * steep - along * mixed) / determinant()};
  }
  // The best by_second once by_first is decided.
  double second_after(double first) const { return (across - first * mixed) / flat; }
};

// The two whole numbers around a wish, within [low, high].
std::array<int, 2> neighbours(double wish, int low, int high) {
  const double below = std::clamp(std::floor(wish), static_cast<double>(low), static_cast<double>(high));
  return {static_cast<int>(below), std::min(static_cast<int>(below) + 1, high)};
}

// What a group can be given. u = code - zero, v = 1.
struct Knobs {
  float scale, zero;
  int sub_scale = 0, sub_minimum = 0;  // magnitudes, with two levels
};

Step step_to(const Knobs& k, float scale, float zero) {
  return {double{k.scale} - scale, double{k.scale} * (double{zero} - k.zero)};
}

// The best scale for a zero that lies `shift` lower: weights scale (u + shift).
double scale_for(const Quadratic& q, double scale, double shift) {
  const double square = q.steep + 2 * shift * q.mixed + shift * shift * q.flat;
  return (q.along + shift * q.across + scale * (q.steep + shift * q.mixed)) / square;
}

// The stored numbers nearest to a group's best ones, form by form.
class Candidates {
 public:
  Candidates(const Quadratic& q, const Grid& grid, std::size_t row, std::size_t group)
      : q_(q), grid_(grid), row_(row), block_(group * grid.group_width() / kSuperBlock), scale_(grid.scales(row, group)),
        zero_(grid.zeros(row, group)) {
    switch (grid.form) {
      case GridForm::zero_points: with_zero_point(); break;
      case GridForm::signed_half: with_scale(); break;
      case GridForm::half_minimum: with_minimum(); break;
      case GridForm::super_signed: with_sub_scale(); break;
      case GridForm::super_minimum: with_sub_minimum(); break;
    }
  }

  const std::vector<Knobs>& list() const { return list_; }

 private:
  void with_zero_point() {
    for (const int shift : {0, -1, 1}) {
      if (shift != 0 && grid_.layout.symmetric) continue;
      const double zero = zero_ - shift, scale = scale_for(q_, scale_, shift);
      if (zero < 0 || zero > grid_.highest() || !(scale > 0)) continue;
      list_.push_back({portable_scale(static_cast<float>(scale)), static_cast<float>(zero)});
    }
  }

  void with_scale() {
    const double scale = scale_for(q_, scale_, 0);
    if (scale > 0) list_.push_back({half_scale(static_cast<float>(scale)), zero_});
  }

  // What code 0 would best stand for under this scale.
  double minimum_for(float scale) const { return q_.second_after(double{scale} - scale_) - double{scale} * zero_; }

  void with_minimum() {
    const double scale = scale_ + q_.best().by_first;
    if (!(q_.determinant() > 0 && scale > 0)) return;
    const float stored = half_scale(static_cast<float>(scale));
    list_.push_back({stored, -half_minimum(static_cast<float>(minimum_for(stored))) / stored});
  }

  void with_sub_scale() {
    if (!(q_.steep > 0)) return;  // every code is the zero: any scale does
    const float level = grid_.super_blocks.scales(row_, block_);
    for (const int sub : neighbours(scale_for(q_, scale_, 0) / level, 1, grid_.highest_sub_scale())) {
      list_.push_back({level * static_cast<float>(sub), zero_, sub});
    }
  }

  void with_sub_minimum() {
    const float level = grid_.super_blocks.scales(row_, block_), depth = grid_.super_blocks.minima(row_, block_);
    if (!(q_.determinant() > 0)) return;
    const int highest = grid_.highest_sub_scale();
    for (const int sub : neighbours((scale_ + q_.best().by_first) / level, 1, highest)) {
      const float scale = level * static_cast<float>(sub);
      for (const int minimum : neighbours(depth > 0 ? -minimum_for(scale) / depth : 0, 0, highest)) {
        list_.push_back({scale, depth * static_cast<float>(minimum) / scale, sub, minimum});
      }
    }
  }

  const Quadratic& q_;
  const Grid& grid_;
  std::size_t row_, block_;
  float scale_, zero_;  // where the group stands
  std::vector<Knobs> list_;
};

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
        groups_(positions_by(grid.group_width())),
        gradient_(rows_, n_) {
    if (grid.two_levels()) blocks_ = positions_by(kSuperBlock);
  }

  std::int64_t run(int sweeps) {
    std::int64_t moves = 0;
    for (int s = 0; s < sweeps; ++s) {
      const std::int64_t before = moves;
      compute_gradient();
      for (std::size_t b = 0; b < blocks_.size(); ++b) moves += refit_block(b);
      for (std::size_t g = 0; g < groups_.size(); ++g) moves += refit_group(g);
      if (moves == before) break;
    }
    return moves;
  }

 private:
  using Positions = std::vector<std::size_t>;

  std::vector<Positions> positions_by(std::size_t width) const {
    std::vector<Positions> list((n_ + width - 1) / width);
    for (std::size_t p = 0; p < n_; ++p) list[input_at_[p] / width].push_back(p);
    return list;
  }

  void compute_gradient() {
    Matrix<float> error(n_, rows_);
    subtract_weights(TileGrid(grid_, first_, rows_, input_at_), codes_, target_, error);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows_, n_, n_, 1, error.data(), rows_, metric_.data,
                metric_.stride, 0, gradient_.data(), n_);
  }

  std::int64_t refit_group(std::size_t g) {
    const Positions& positions = groups_[g];
    Matrix<float> levels(rows_, positions.size()), ones(rows_, positions.size());
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t i = 0; i < positions.size(); ++i) {
        levels(r, i) = static_cast<float>(codes_(positions[i], r)) - grid_.zeros(first_ + r, g);
        ones(r, i) = 1;
      }
    }
    return move(positions, levels, ones, [&](const Quadratic& q, std::size_t r) { return set_group(q, first_ + r, g); });
  }

  // The fp16 numbers of a super-block, its groups' integers held: u is the weight in units of the scale, v in units of
  // the minimum.
  std::int64_t refit_block(std::size_t b) {
    const Positions& positions = blocks_[b];
    const bool minima = grid_.form == GridForm::super_minimum;
    const SuperBlocks& super = grid_.super_blocks;
    Matrix<float> scaled(rows_, positions.size()), lowered(rows_, positions.size());
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t i = 0; i < positions.size(); ++i) {
        const std::size_t g = input_at_[positions[i]] / grid_.group_width();
        const float zero = minima ? 0 : grid_.zeros(first_ + r, g);
        scaled(r, i) = static_cast<float>(std::abs(super.sub_scales(first_ + r, g))) *
                       (static_cast<float>(codes_(positions[i], r)) - zero);
        if (minima) lowered(r, i) = -static_cast<float>(super.sub_minima(first_ + r, g));
      }
    }
    return move(positions, scaled, lowered, [&](const Quadratic& q, std::size_t r) { return set_block(q, first_ + r, b); });
  }

  // u, v: (rows, positions). set(q, row) decides each row's step and enters it into the grid. Returns how many rows
  // moved.
  template <class Set>
  std::int64_t move(const Positions& positions, Matrix<float>& u, const Matrix<float>& v, const Set& set) {
    const std::size_t width = positions.size();
    Matrix<float> panel(width, n_), core(width, width), core_u(rows_, width), core_v(rows_, width);
    for (std::size_t i = 0; i < width; ++i) {
      std::copy_n(metric_.row(positions[i]), n_, panel.row(i));
      for (std::size_t j = 0; j < width; ++j) core(i, j) = metric_(positions[i], positions[j]);
    }
    multiply(u, core, 1, 0, core_u);
    multiply(v, core, 1, 0, core_v);
    std::int64_t moves = 0;
    for (std::size_t r = 0; r < rows_; ++r) {
      Quadratic q;
      for (std::size_t i = 0; i < width; ++i) {
        const double slope = gradient_(r, positions[i]), a = u(r, i), b = v(r, i);
        q.along += a * slope;
        q.across += b * slope;
        q.steep += a * core_u(r, i);
        q.mixed += b * core_u(r, i);
        q.flat += b * core_v(r, i);
      }
      const std::optional<Step> step = set(q, r);
      moves += step.has_value();
      const Step by = step.value_or(Step{});
      for (std::size_t i = 0; i < width; ++i) {  // u becomes what the weights change by
        u(r, i) = static_cast<float>(by.by_first * u(r, i) + by.by_second * v(r, i));
      }
    }
    if (moves > 0) multiply(u, panel, -1, 1, gradient_);
    return moves;
  }

  // out = factor a b + keep out
  static void multiply(const Matrix<float>& a, const Matrix<float>& b, float factor, float keep, Matrix<float>& out) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, a.rows(), b.cols(), a.cols(), factor, a.data(), a.cols(),
                b.data(), b.cols(), keep, out.data(), out.cols());
  }

  std::optional<Step> set_group(const Quadratic& q, std::size_t row, std::size_t g) {
    const Knobs* best = nullptr;
    double most = 0;
    const Candidates candidates(q, grid_, row, g);
    for (const Knobs& knobs : candidates.list()) {
      const Step step = step_to(knobs, grid_.scales(row, g), grid_.zeros(row, g));
      if (!q.worth(step, most)) continue;
      most = q.gain(step);
      best = &knobs;
    }
    if (!best) return {};
    const Step step = step_to(*best, grid_.scales(row, g), grid_.zeros(row, g));
    grid_.scales(row, g) = best->scale;
    grid_.zeros(row, g) = best->zero;
    if (grid_.two_levels()) {
      std::int8_t& sub = grid_.super_blocks.sub_scales(row, g);
      sub = static_cast<std::int8_t>(sub < 0 ? -best->sub_scale : best->sub_scale);
    }
    if (grid_.form == GridForm::super_minimum) {
      grid_.super_blocks.sub_minima(row, g) = static_cast<std::uint8_t>(best->sub_minimum);
    }
    return step;
  }

  std::optional<Step> set_block(const Quadratic& q, std::size_t row, std::size_t b) {
    SuperBlocks& super = grid_.super_blocks;
    const bool minima = grid_.form == GridForm::super_minimum && q.determinant() > 0;
    const float scale = super.scales(row, b), minimum = minima ? super.minima(row, b) : 0;
    const double wish = scale + (minima ? q.best().by_first : q.along / q.steep);
    if (!(wish > 0)) return {};
    const float stored = half_scale(static_cast<float>(wish));
    Step step{double{stored} - scale, 0};
    float lowest = minimum;
    if (minima) {
      lowest = half_minimum(static_cast<float>(std::max(0.0, minimum + q.second_after(step.by_first))));
      step.by_second = double{lowest} - minimum;
    }
    if (!q.worth(step, 0)) return {};
    super.scales(row, b) = stored;
    if (minima) super.minima(row, b) = lowest;
    const std::size_t count = kSuperBlock / grid_.group_width();
    for (std::size_t g = b * count; g < (b + 1) * count; ++g) grid_.apply_levels(row, g);
    return step;
  }

  MatrixView<const float> metric_;
  Grid& grid_;
  std::size_t first_;
  MatrixView<const float> target_;
  MatrixView<const std::uint8_t> codes_;
  const std::vector<std::uint32_t>& input_at_;
  std::size_t n_, rows_;
  std::vector<Positions> groups_, blocks_;  // blocks: with two levels
  Matrix<float> gradient_;                  // (rows, positions): A (t - w^)
};

}  // namespace

std::int64_t refit_tile(const LayerSystem& system, Grid& grid, std::size_t first,
                        MatrixView<const float> target, MatrixView<const std::uint8_t> codes, int sweeps) {
  const ThreadScope serial(1);
  return Refit(system, grid, first, target, codes).run(sweeps);
}

}  // namespace neap
