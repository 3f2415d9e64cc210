#include "solve/walk.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/multiversion.h"
#include "base/parallel.h"
#include "solve/klein.h"
#include "solve/snap.h"

namespace neap {
namespace {

constexpr std::size_t kBlock = 64;     // positions between two matrix products
constexpr std::size_t kSubBlock = 8;   // positions between two in-block updates
// Where even the second-best code is less likely than exp(-20), 2e-9, the draw is the greedy one.
constexpr float kCertain = 20;
// A sampled path wins by more than fp32's rounding of the residuals.
constexpr double kLeastGain = 1e-5;

// One coordinate of one path for every row: the nearest code to target + carry, the residual
// target - weight, and the squared distance weighted by the pivot.
NEAP_MULTIVERSION
void decide(const float* target, const float* carry, const float* scale, const float* zero,
            float highest, float pivot, std::size_t rows, std::uint8_t* code, float* error,
            double* score) {
  for (std::size_t r = 0; r < rows; ++r) {
    const float centre = target[r] + carry[r];
    const float c = nearest_code(centre, scale[r], zero[r], highest);
    const float value = scale[r] * (c - zero[r]);
    code[r] = static_cast<std::uint8_t>(static_cast<int>(c));
    error[r] = target[r] - value;
    score[r] += pivot * (centre - value) * (centre - value);
  }
}

// How much likelier the nearest code is than the next one inside the box, as a logarithm.
NEAP_MULTIVERSION
void measure_certainty(const float* target, const float* carry, const float* scale,
                       const float* zero, const float* temperature, const std::uint8_t* code,
                       float highest, float pivot, std::size_t rows, float* certainty) {
  for (std::size_t r = 0; r < rows; ++r) {
    const auto c = static_cast<float>(code[r]);
    const float d = (target[r] + carry[r]) / scale[r] + zero[r] - c;
    const float towards = d > 0 ? highest - c : c;  // 0: the box ends there
    const float gap = towards > 0 ? 1 - 2 * std::abs(d) : 1 + 2 * std::abs(d);
    certainty[r] = temperature[r] * pivot * scale[r] * scale[r] * gap;
  }
}

class Walk {
 public:
  Walk(const LayerSystem& system, const TileGrid& grid, MatrixView<const float> target,
       const PathSampler& sampler)
      : system_(system),
        grid_(grid),
        target_(target),
        sampler_(sampler),
        rows_(target.cols),
        columns_(target.cols * (sampler.paths + 1)),
        errors_(target.rows, columns_),
        codes_(target.rows, columns_),
        carry_(kBlock, columns_),
        scores_(columns_),
        certainty_(rows_),
        draws_(rows_) {
    set_temperatures();
  }

  WalkResult run() {
    for (std::size_t end = target_.rows; end > 0;) {
      const std::size_t begin = (end - 1) / kBlock * kBlock;
      carry_into(begin, end);
      walk_block(begin, end);
      end = begin;
    }
    return choose();
  }

 private:
  // alpha = ln(rho) / min r_ii^2 s_i^2 over live inputs; infinite where nothing is to be drawn.
  void set_temperatures() {
    std::vector<float> least(rows_, std::numeric_limits<float>::infinity());
    for (std::size_t p = 0; p < target_.rows; ++p) {
      if (!system_.live()[p]) continue;
      const float *scale = grid_.scale(p), pivot = system_.pivots()[p];
      for (std::size_t r = 0; r < rows_; ++r) {
        least[r] = std::min(least[r], pivot * scale[r] * scale[r]);
      }
    }
    for (const float l : least) {
      temperature_.push_back(std::isinf(l) ? l : static_cast<float>(std::log(sampler_.rho)) / l);
    }
  }

  // What the positions from `end` on push onto [begin, end): one product for all rows and paths.
  void carry_into(std::size_t begin, std::size_t end) {
    const std::size_t n = target_.rows;
    std::fill_n(carry_.data(), carry_.rows() * carry_.cols(), 0.0f);
    if (end == n) return;
    const auto factor = system_.factor();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, end - begin, columns_, n - end, 1,
                factor.row(begin) + end, factor.stride, errors_.row(end), columns_, 0,
                carry_.data(), columns_);
  }

  void walk_block(std::size_t begin, std::size_t end) {
    for (std::size_t sub_end = end; sub_end > begin;) {
      const std::size_t sub_begin = (sub_end - 1) / kSubBlock * kSubBlock;
      for (std::size_t p = sub_end; p-- > sub_begin;) {
        decide_position(p, carry_.row(p - begin));
        push(p, p + 1, sub_begin, begin);
      }
      push_block(sub_begin, sub_end, begin);
      sub_end = sub_begin;
    }
  }

  // Errors of [from, to) go onto the carries of [first, from) of the block that starts at `begin`.
  void push(std::size_t from, std::size_t to, std::size_t first, std::size_t begin) {
    if (first == from) return;
    const MatrixView<const float> errors{errors_.row(from), to - from, columns_};
    carry_back(system_.factor().block(first, from, from - first, to - from), errors,
               carry_.view().block(first - begin, 0, from - first, columns_));
  }
  void push_block(std::size_t from, std::size_t to, std::size_t begin) { push(from, to, begin, begin); }

  void decide_position(std::size_t p, const float* carry) {
    const float pivot = system_.pivots()[p];
    for (int path = 0; path <= sampler_.paths; ++path) {
      const std::size_t at = path * rows_;
      decide(target_.row(p), carry + at, grid_.scale(p), grid_.zero(p), grid_.highest(), pivot,
             rows_, codes_.row(p) + at, errors_.row(p) + at, scores_.data() + at);
      if (path > 0) sample(p, path, carry + at);
    }
  }

  void sample(std::size_t p, int path, const float* carry) {
    const float pivot = system_.pivots()[p];
    const std::size_t at = path * rows_;
    measure_certainty(target_.row(p), carry, grid_.scale(p), grid_.zero(p), temperature_.data(),
                      codes_.row(p) + at, grid_.highest(), pivot, rows_, certainty_.data());
    std::size_t count = 0;
    for (std::size_t r = 0; r < rows_; ++r) {
      if (!(certainty_[r] < kCertain)) continue;
      const float scale = grid_.scale(p)[r];
      draws_.at[count] = r;
      draws_.row[count] = sampler_.first_row + r;
      draws_.centre[count] = (target_(p, r) + carry[r]) / scale + grid_.zero(p)[r];
      draws_.sharpness[count] = temperature_[r] * pivot * scale * scale;
      ++count;
    }
    sample_codes({sampler_.key, static_cast<std::uint32_t>(path), system_.input_at()[p]},
                 draws_.row.data(), draws_.centre.data(), draws_.sharpness.data(),
                 static_cast<int>(grid_.highest()), count, draws_.code.data());
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t r = draws_.at[k];
      if (draws_.code[k] == codes_(p, at + r)) continue;
      replace(p, r, at, draws_.code[k], static_cast<double>(target_(p, r)) + carry[r]);
    }
  }

  void replace(std::size_t p, std::size_t r, std::size_t at, int code, double centre) {
    const double scale = grid_.scale(p)[r], pivot = system_.pivots()[p];
    const auto weight = [&](int c) { return scale * (c - static_cast<double>(grid_.zero(p)[r])); };
    const double before = centre - weight(codes_(p, at + r)), after = centre - weight(code);
    scores_[at + r] += pivot * (after * after - before * before);
    codes_(p, at + r) = static_cast<std::uint8_t>(code);
    errors_(p, at + r) = static_cast<float>(target_(p, r) - weight(code));
  }

  WalkResult choose() {
    WalkResult result;
    result.winner.assign(rows_, 0);
    for (std::size_t r = 0; r < rows_; ++r) {
      double least = scores_[r] * (1 - kLeastGain);
      for (int path = 1; path <= sampler_.paths; ++path) {
        if (scores_[path * rows_ + r] >= least) continue;
        least = scores_[path * rows_ + r];
        result.winner[r] = path;
      }
      result.greedy_scores.push_back(scores_[r]);
    }
    result.sampled.assign(sampler_.paths, 0);
    result.codes = Matrix<std::uint8_t>(target_.rows, rows_);
    for (std::size_t p = 0; p < target_.rows; ++p) {
      const std::uint8_t* codes = codes_.row(p);
      for (std::size_t r = 0; r < rows_; ++r) {
        result.codes(p, r) = codes[result.winner[r] * rows_ + r];
      }
      for (int path = 1; path <= sampler_.paths; ++path) {
        const std::uint8_t* sampled = codes + path * rows_;
        for (std::size_t r = 0; r < rows_; ++r) result.sampled[path - 1] += sampled[r] != codes[r];
      }
    }
    return result;
  }

  const LayerSystem& system_;
  const TileGrid& grid_;
  MatrixView<const float> target_;
  const PathSampler& sampler_;
  std::size_t rows_, columns_;  // a column is a row on a path, path by path
  Matrix<float> errors_;        // target - weight, of what is decided
  Matrix<std::uint8_t> codes_;
  Matrix<float> carry_;  // of one block
  std::vector<double> scores_;
  std::vector<float> temperature_, certainty_;
  struct Draws {  // of one coordinate of one path: the rows where chance has a say
    explicit Draws(std::size_t rows) : at(rows), row(rows), centre(rows), sharpness(rows), code(rows) {}
    std::vector<std::size_t> at;
    std::vector<std::uint64_t> row;
    std::vector<float> centre, sharpness;
    std::vector<std::uint8_t> code;
  } draws_;
};

}  // namespace

WalkResult walk_tile(const LayerSystem& system, const TileGrid& grid, MatrixView<const float> target,
                     const PathSampler& sampler) {
  const ThreadScope serial(1);
  return Walk(system, grid, target, sampler).run();
}

}  // namespace neap
