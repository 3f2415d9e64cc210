#include "solve/table_descent.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/multiversion.h"
#include "base/parallel.h"

namespace neap {
namespace {

// A step d of a coordinate gains at least this share of curvature x scale x |d|, as in solve/descent.cpp.
constexpr float kLeastGain = 0x1p-10f;

// One coordinate of every row in one table. gradient: (A e)_i with the block's steps so far; value: the weight
// now. Adds to `change` what the objective changes by, and to `least` what it must gain at least.
NEAP_MULTIVERSION
void propose_entry(const float* gradient, float curvature, const float* value, const float* scale,
                   const float* inverse, const TableSteps& table, std::size_t rows, float* __restrict entry,
                   float* __restrict step, float* __restrict change, float* __restrict least) {
  for (std::size_t r = 0; r < rows; ++r) {
    const float wish = (value[r] + gradient[r] / curvature) * inverse[r];
    float e = table.first;
    for (std::size_t k = 0; k + 1 < kTableEntries; ++k) e += wish > table.middle[k] ? table.step[k] : 0.0f;
    const float d = scale[r] * e - value[r];
    entry[r] = e;
    step[r] = d;
    change[r] += d * (curvature * d - 2 * gradient[r]);
    least[r] += kLeastGain * curvature * std::abs(scale[r] * d);
  }
}

NEAP_MULTIVERSION
void add_scaled(float factor, const float* from, std::size_t count, float* __restrict to) {
  for (std::size_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

class Descent {
 public:
  Descent(const LayerSystem& system, const TableTile& tile, MatrixView<const float> target, TableChoice& choice)
      : metric_(system.metric()),
        tile_(tile),
        choice_(choice),
        n_(target.rows),
        rows_(target.cols),
        size_(tile.layout().block),
        error_(n_, rows_),
        value_(n_, rows_),
        gradient_(rows_, n_),
        block_(size_, rows_),
        local_(size_, rows_),
        entry_(size_, rows_),
        step_(size_, rows_),
        best_entry_(size_, rows_),
        best_step_(size_, rows_),
        change_(rows_),
        least_(rows_),
        best_(rows_),
        table_(rows_) {
    for (const Table& table : tile.layout().tables) tables_.emplace_back(table);
    subtract_weights(tile, choice, target, error_);
    for (std::size_t p = 0; p < n_; ++p) {
      for (std::size_t r = 0; r < rows_; ++r) value_(p, r) = target(p, r) - error_(p, r);
    }
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
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows_, n_, n_, 1, error_.data(), rows_, metric_.data,
                metric_.stride, 0, gradient_.data(), n_);
  }

  bool sweep() {
    const std::int64_t before = result_.moves;
    for (std::size_t b = tile_.blocks().size(); b-- > 0;) {
      const BlockPlace& block = tile_.blocks()[b];
      for (std::size_t r = 0; r < rows_; ++r) {
        for (std::size_t p = block.begin; p < block.end; ++p) block_(p - block.begin, r) = gradient_(r, p);
      }
      std::fill(best_.begin(), best_.end(), 0.0f);
      for (std::size_t t = 0; t < tables_.size(); ++t) {
        try_table(block, tables_[t]);
        keep_better(block, static_cast<std::uint8_t>(t));
      }
      for (std::size_t r = 0; r < rows_; ++r) {
        if (best_[r] < 0) take_steps(block, r);
      }
    }
    return result_.moves > before;
  }

  void try_table(const BlockPlace& block, const TableSteps& table) {
    const std::size_t size = block.end - block.begin;
    std::copy_n(block_.data(), size * rows_, local_.data());
    std::fill(change_.begin(), change_.end(), 0.0f);
    std::fill(least_.begin(), least_.end(), 0.0f);
    for (std::size_t i = size; i-- > 0;) {
      const std::size_t p = block.begin + i;
      propose_entry(local_.row(i), metric_(p, p), value_.row(p), tile_.scale(block), tile_.inverse(block), table,
                    rows_, entry_.row(i), step_.row(i), change_.data(), least_.data());
      for (std::size_t j = 0; j < i; ++j) add_scaled(-metric_(p, block.begin + j), step_.row(i), rows_, local_.row(j));
    }
  }

  void keep_better(const BlockPlace& block, std::uint8_t table) {
    for (std::size_t r = 0; r < rows_; ++r) {
      if (!(change_[r] < best_[r] && -change_[r] > least_[r])) continue;
      best_[r] = change_[r];
      table_[r] = table;
      for (std::size_t i = 0; i < block.end - block.begin; ++i) {
        best_entry_(i, r) = entry_(i, r);
        best_step_(i, r) = step_(i, r);
      }
    }
  }

  void take_steps(const BlockPlace& block, std::size_t r) {
    moved_[r] = 1;
    choice_.selectors(block.index, r) = table_[r];
    for (std::size_t p = block.begin; p < block.end; ++p) {
      const float d = best_step_(p - block.begin, r);
      choice_.entries(p, r) = best_entry_(p - block.begin, r);
      if (d == 0) continue;
      ++result_.moves;
      value_(p, r) += d;
      error_(p, r) -= d;
      add_scaled(-d, metric_.row(p), n_, gradient_.row(r));
    }
  }

  MatrixView<const float> metric_;
  const TableTile& tile_;
  TableChoice& choice_;
  std::size_t n_, rows_, size_;
  std::vector<TableSteps> tables_;
  Matrix<float> error_, value_;  // (positions, rows): target - weight, weight
  Matrix<float> gradient_;       // (rows, positions), so that a move adds one row of A to one row
  Matrix<float> block_;          // of the gradient, turned
  Matrix<float> local_, entry_, step_, best_entry_, best_step_;
  std::vector<float> change_, least_, best_;
  std::vector<std::uint8_t> table_, moved_;
  DescentResult result_;
};

}  // namespace

DescentResult descend_tables(const LayerSystem& system, const TableTile& tile, MatrixView<const float> target,
                             TableChoice& choice, int sweeps) {
  const ThreadScope serial(1);
  return Descent(system, tile, target, choice).run(sweeps);
}

}  // namespace neap
