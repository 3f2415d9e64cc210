#include "solve/table_descent.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <numeric>
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
  const TableSteps steps = table;  // whose reading cannot fault, so that the loop has no branches
  for (std::size_t r = 0; r < rows; ++r) {
    const float wish = (value[r] + gradient[r] / curvature) * inverse[r];
    const float e = steps.nearest(wish);
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

// Where a table gains enough, and more than those before it, it and its entries are kept.
NEAP_MULTIVERSION
void keep_better(const float* change, const float* least, const float* entry, const float* step, std::size_t size,
                 std::size_t rows, std::uint8_t table, float* __restrict best, std::uint8_t* __restrict best_table,
                 float* __restrict best_entry, float* __restrict best_step) {
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t r = 0; r < rows; ++r) {
      const bool better = change[r] < best[r] && -change[r] > least[r];
      best_entry[i * rows + r] = better ? entry[i * rows + r] : best_entry[i * rows + r];
      best_step[i * rows + r] = better ? step[i * rows + r] : best_step[i * rows + r];
    }
  }
  for (std::size_t r = 0; r < rows; ++r) {
    const bool better = change[r] < best[r] && -change[r] > least[r];
    best_table[r] = better ? table : best_table[r];
    best[r] = better ? change[r] : best[r];
  }
}

// One block of the rows that still move, packed side by side.
struct PackedBlock {
  PackedBlock(std::size_t size, std::size_t rows)
      : gradient(size * rows), value(size * rows), local(size * rows), entry(size * rows), step(size * rows),
        best_entry(size * rows), best_step(size * rows), scale(rows), inverse(rows), change(rows), least(rows),
        best(rows), table(rows) {}
  std::vector<float> gradient, value, local, entry, step, best_entry, best_step;
  std::vector<float> scale, inverse, change, least, best;
  std::vector<std::uint8_t> table;
};

class Descent {
 public:
  Descent(const LayerSystem& system, const TableTile& tile, MatrixView<const float> target, TableChoice& choice)
      : metric_(system.metric()),
        tile_(tile),
        choice_(choice),
        n_(target.rows),
        rows_(target.cols),
        error_(n_, rows_),
        value_(n_, rows_),
        gradient_(rows_, n_),
        packed_(tile.layout().block, rows_),
        moved_(rows_) {
    for (const Table& table : tile.layout().tables) tables_.emplace_back(table);
    subtract_weights(tile, choice, target, error_);
    for (std::size_t p = 0; p < n_; ++p) {
      for (std::size_t r = 0; r < rows_; ++r) value_(p, r) = target(p, r) - error_(p, r);
    }
  }

  // A row that a whole sweep did not move will not move in the next one either: only the others are swept
  // again. When none is left, all are looked at once more with fresh gradients.
  DescentResult run(int sweeps) {
    bool fresh = true;
    start();
    while (result_.sweeps < sweeps) {
      ++result_.sweeps;
      sweep();
      active_ = moving_rows();
      result_.unsettled_rows = static_cast<std::int64_t>(active_.size());
      if (!active_.empty()) {
        fresh = false;
        continue;
      }
      if (fresh) break;
      start();
      fresh = true;
    }
    return result_;
  }

 private:
  void start() {
    ++result_.gradients;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows_, n_, n_, 1, error_.data(), rows_, metric_.data,
                metric_.stride, 0, gradient_.data(), n_);
    active_.resize(rows_);
    std::iota(active_.begin(), active_.end(), std::size_t{0});
  }

  std::vector<std::size_t> moving_rows() const {
    std::vector<std::size_t> rows;
    for (const std::size_t r : active_) {
      if (moved_[r]) rows.push_back(r);
    }
    return rows;
  }

  void sweep() {
    std::fill(moved_.begin(), moved_.end(), std::uint8_t{0});
    for (std::size_t b = tile_.blocks().size(); b-- > 0;) {
      const BlockPlace& block = tile_.blocks()[b];
      const std::size_t size = block.end - block.begin, count = active_.size();
      pack(block);
      for (std::size_t t = 0; t < tables_.size(); ++t) {
        try_table(block, tables_[t]);
        keep_better(packed_.change.data(), packed_.least.data(), packed_.entry.data(), packed_.step.data(), size, count,
                    static_cast<std::uint8_t>(t), packed_.best.data(), packed_.table.data(), packed_.best_entry.data(),
                    packed_.best_step.data());
      }
      for (std::size_t k = 0; k < count; ++k) {
        if (packed_.best[k] < 0) take_steps(block, k);
      }
    }
  }

  void pack(const BlockPlace& block) {
    const std::size_t count = active_.size();
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t r = active_[k];
      for (std::size_t p = block.begin; p < block.end; ++p) {
        packed_.gradient[(p - block.begin) * count + k] = gradient_(r, p);
        packed_.value[(p - block.begin) * count + k] = value_(p, r);
      }
      packed_.scale[k] = tile_.scale(block)[r];
      packed_.inverse[k] = tile_.inverse(block)[r];
    }
    std::fill_n(packed_.best.begin(), count, 0.0f);
  }

  void try_table(const BlockPlace& block, const TableSteps& table) {
    const std::size_t size = block.end - block.begin, count = active_.size();
    std::copy_n(packed_.gradient.begin(), size * count, packed_.local.begin());
    std::fill_n(packed_.change.begin(), count, 0.0f);
    std::fill_n(packed_.least.begin(), count, 0.0f);
    for (std::size_t i = size; i-- > 0;) {
      const std::size_t p = block.begin + i;
      float* step = packed_.step.data() + i * count;
      propose_entry(packed_.local.data() + i * count, metric_(p, p), packed_.value.data() + i * count,
                    packed_.scale.data(), packed_.inverse.data(), table, count, packed_.entry.data() + i * count, step,
                    packed_.change.data(), packed_.least.data());
      for (std::size_t j = 0; j < i; ++j) {
        add_scaled(-metric_(p, block.begin + j), step, count, packed_.local.data() + j * count);
      }
    }
  }

  // k: among the rows that are packed.
  void take_steps(const BlockPlace& block, std::size_t k) {
    const std::size_t r = active_[k], count = active_.size();
    moved_[r] = 1;
    choice_.selectors(block.index, r) = packed_.table[k];
    for (std::size_t p = block.begin; p < block.end; ++p) {
      const float d = packed_.best_step[(p - block.begin) * count + k];
      choice_.entries(p, r) = packed_.best_entry[(p - block.begin) * count + k];
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
  std::size_t n_, rows_;
  std::vector<TableSteps> tables_;
  Matrix<float> error_, value_;  // (positions, rows): target - weight, weight
  Matrix<float> gradient_;       // (rows, positions), so that a move adds one row of A to one row
  PackedBlock packed_;
  std::vector<std::size_t> active_;
  std::vector<std::uint8_t> moved_;
  DescentResult result_;
};

}  // namespace

DescentResult descend_tables(const LayerSystem& system, const TableTile& tile, MatrixView<const float> target,
                             TableChoice& choice, int sweeps) {
  const ThreadScope serial(1);
  return Descent(system, tile, target, choice).run(sweeps);
}

}  // namespace neap
