#include "solve/table_walk.h"

#include <cblas.h>

#include <algorithm>
#include <limits>

#include "base/multiversion.h"
#include "base/parallel.h"
#include "solve/tile.h"

namespace neap {
namespace {

constexpr std::size_t kSpan = 64;  // positions between two matrix products, about

// One coordinate of every row in one table: the entry nearest to target + carry, the residual target - weight, and
// the squared distance weighted by the pivot.
NEAP_MULTIVERSION
void decide_entry(const float* target, const float* carry, const float* scale, const float* inverse,
                  const TableSteps& table, float pivot, std::size_t rows, float* __restrict entry,
                  float* __restrict error, float* __restrict score) {
  const TableSteps steps = table;  // whose reading cannot fault, so that the loop has no branches
  for (std::size_t r = 0; r < rows; ++r) {
    const float centre = target[r] + carry[r], value = centre * inverse[r];
    const float e = steps.nearest(value);
    const float weight = scale[r] * e, distance = centre - weight;
    entry[r] = e;
    error[r] = target[r] - weight;
    score[r] += pivot * distance * distance;
  }
}

NEAP_MULTIVERSION
void add_product(float factor, const float* from, std::size_t count, float* __restrict to) {
  for (std::size_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

// Where a score is the least so far, it and its block are kept.
NEAP_MULTIVERSION
void keep_better(const float* score, const float* entry, const float* error, std::size_t size, std::size_t rows,
                 std::uint8_t table, float* __restrict best, std::uint8_t* __restrict selector,
                 float* __restrict best_entry, float* __restrict best_error) {
  for (std::size_t i = 0; i < size; ++i) {
    for (std::size_t r = 0; r < rows; ++r) {
      const bool better = score[r] < best[r];
      best_entry[i * rows + r] = better ? entry[i * rows + r] : best_entry[i * rows + r];
      best_error[i * rows + r] = better ? error[i * rows + r] : best_error[i * rows + r];
    }
  }
  for (std::size_t r = 0; r < rows; ++r) {
    const bool better = score[r] < best[r];
    selector[r] = better ? table : selector[r];
    best[r] = better ? score[r] : best[r];
  }
}

class Walk {
 public:
  Walk(const LayerSystem& system, const TableTile& tile, MatrixView<const float> target)
      : system_(system),
        tile_(tile),
        target_(target),
        rows_(target.cols),
        errors_(target.rows, rows_),
        carry_(kSpan + tile.layout().block, rows_),
        local_(tile.layout().block, rows_),
        entry_(tile.layout().block, rows_),
        error_(tile.layout().block, rows_),
        choice_{Matrix<float>(target.rows, rows_), Matrix<std::uint8_t>(tile.blocks().size(), rows_)},
        score_(rows_),
        best_(rows_) {
    for (const Table& table : tile.layout().tables) tables_.emplace_back(table);
  }

  TableChoice run() {
    const auto& blocks = tile_.blocks();
    for (std::size_t last = blocks.size(); last > 0;) {
      std::size_t first = last - 1;
      while (first > 0 && blocks[last - 1].end - blocks[first - 1].begin <= kSpan) --first;
      const std::size_t begin = blocks[first].begin;
      carry_into(begin, blocks[last - 1].end);
      for (std::size_t b = last; b-- > first;) decide_block(blocks[b], begin);
      last = first;
    }
    return std::move(choice_);
  }

 private:
  // What the positions from `end` on push onto [begin, end).
  void carry_into(std::size_t begin, std::size_t end) {
    const std::size_t n = target_.rows;
    std::fill_n(carry_.data(), carry_.rows() * carry_.cols(), 0.0f);
    if (end == n) return;
    const auto factor = system_.factor();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, end - begin, rows_, n - end, 1, factor.row(begin) + end,
                factor.stride, errors_.row(end), rows_, 0, carry_.data(), rows_);
  }

  void decide_block(const BlockPlace& block, std::size_t begin) {
    const std::size_t size = block.end - block.begin;
    std::fill(best_.begin(), best_.end(), std::numeric_limits<float>::infinity());
    for (std::size_t t = 0; t < tables_.size(); ++t) {
      try_table(block, begin, tables_[t]);
      keep_better(score_.data(), entry_.data(), error_.data(), size, rows_, static_cast<std::uint8_t>(t), best_.data(),
                  choice_.selectors.row(block.index), choice_.entries.row(block.begin), errors_.row(block.begin));
    }
    if (block.begin == begin) return;
    const MatrixView<const float> errors{errors_.row(block.begin), size, rows_};
    carry_back(system_.factor().block(begin, block.begin, block.begin - begin, size), errors,
               carry_.view().row_range(0, block.begin - begin));
  }

  void try_table(const BlockPlace& block, std::size_t begin, const TableSteps& table) {
    const std::size_t size = block.end - block.begin;
    std::copy_n(carry_.row(block.begin - begin), size * rows_, local_.data());
    std::fill(score_.begin(), score_.end(), 0.0f);
    for (std::size_t i = size; i-- > 0;) {
      const std::size_t p = block.begin + i;
      decide_entry(target_.row(p), local_.row(i), tile_.scale(block), tile_.inverse(block), table, system_.pivots()[p],
                   rows_, entry_.row(i), error_.row(i), score_.data());
      for (std::size_t j = 0; j < i; ++j) {
        add_product(system_.factor()(block.begin + j, p), error_.row(i), rows_, local_.row(j));
      }
    }
  }

  const LayerSystem& system_;
  const TableTile& tile_;
  MatrixView<const float> target_;
  std::size_t rows_;
  std::vector<TableSteps> tables_;
  Matrix<float> errors_;                 // target - weight, of what is decided
  Matrix<float> carry_;                  // of one span
  Matrix<float> local_, entry_, error_;  // of one block in one table
  TableChoice choice_;
  std::vector<float> score_, best_;
};

}  // namespace

void subtract_weights(const TableTile& tile, const TableChoice& choice, MatrixView<const float> values,
                      MatrixView<float> out) {
  for (const BlockPlace& block : tile.blocks()) {
    const float* scale = tile.scale(block);
    for (std::size_t p = block.begin; p < block.end; ++p) {
      for (std::size_t r = 0; r < values.cols; ++r) out(p, r) = values(p, r) - scale[r] * choice.entries(p, r);
    }
  }
}

TableChoice walk_tables(const LayerSystem& system, const TableTile& tile, MatrixView<const float> target) {
  const ThreadScope serial(1);
  return Walk(system, tile, target).run();
}

}  // namespace neap
