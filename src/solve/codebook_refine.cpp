#include "solve/codebook_refine.h"

#include <algorithm>
#include <limits>

#include "base/parallel.h"
#include "solve/histogram_codebook.h"

namespace neap {
namespace {

constexpr std::size_t kTile = 4096;  // blocks
constexpr double kWorthwhile =
    1e-7;  // share of the error that a move must gain: more than fp32 loses

using Blocks = MatrixView<const std::int16_t>;

class Refiner {
 public:
  Refiner(Blocks blocks, std::span<const float> weights, Codebooks& codebooks)
      : blocks_(blocks), weights_(weights), codebooks_(codebooks), others_(blocks.rows) {
    for (const Codebook& codebook : codebooks) errors_.push_back(errors_with(codebook));
    sum_ = sum_with(0, codebooks[0]);
  }

  double sum() const { return sum_; }

  // Returns whether any entry moved.
  bool sweep() {
    bool moved = false;
    for (std::size_t c = 0; c < codebooks_.size(); ++c) {
      sum_ = sum_with(c, codebooks_[c]);
      bool own = false;
      for (std::size_t i = 0; i < kCodebookEntries; ++i) own |= move(c, i, 1) || move(c, i, -1);
      if (own) errors_[c] = errors_with(codebooks_[c]);
      moved |= own;
    }
    return moved;
  }

 private:
  bool move(std::size_t c, std::size_t i, int by) {
    Codebook changed = codebooks_[c];
    const int entry = changed[i] + by;
    const int low = i == 0 ? -kLargestEntry : changed[i - 1];
    const int high = i + 1 == changed.size() ? kLargestEntry : changed[i + 1];
    if (entry < low || entry > high) return false;
    changed[i] = static_cast<std::int8_t>(entry);
    const double sum = sum_of_best(changed);
    if (sum >= sum_ * (1 - kWorthwhile)) return false;
    sum_ = sum;
    codebooks_[c] = changed;
    return true;
  }

  template <class Body>
  void for_each_tile(const Body& body) const {
    parallel_for((blocks_.rows + kTile - 1) / kTile, [&](std::size_t t) {
      body(t, t * kTile, std::min(blocks_.rows, (t + 1) * kTile));
    });
  }

  float block_error(const ErrorTable& table, std::size_t b) const {
    float error = 0;
    for (std::size_t i = 0; i < blocks_.cols; ++i)
      error += table[static_cast<std::size_t>(blocks_(b, i) + kLargestPoint)];
    return error;
  }

  std::vector<float> errors_with(const Codebook& codebook) const {
    const ErrorTable table = error_table(codebook);
    std::vector<float> errors(blocks_.rows);
    for_each_tile([&](std::size_t, std::size_t first, std::size_t last) {
      for (std::size_t b = first; b < last; ++b) errors[b] = block_error(table, b);
    });
    return errors;
  }

  // Of every block with its best codebook, if the c-th is this one. Also what sum_of_best compares
  // with.
  double sum_with(std::size_t c, const Codebook& codebook) {
    std::fill(others_.begin(), others_.end(), std::numeric_limits<float>::infinity());
    for (std::size_t o = 0; o < errors_.size(); ++o) {
      if (o == c) continue;
      for (std::size_t b = 0; b < blocks_.rows; ++b)
        others_[b] = std::min(others_[b], errors_[o][b]);
    }
    return sum_of_best(codebook);
  }

  double sum_of_best(const Codebook& codebook) const {
    const ErrorTable table = error_table(codebook);
    std::vector<double> sums((blocks_.rows + kTile - 1) / kTile);
    for_each_tile([&](std::size_t t, std::size_t first, std::size_t last) {
      for (std::size_t b = first; b < last; ++b) {
        sums[t] += static_cast<double>(weights_[b]) * std::min(others_[b], block_error(table, b));
      }
    });
    double sum = 0;
    for (const double s : sums) sum += s;
    return sum;
  }

  Blocks blocks_;
  std::span<const float> weights_;
  Codebooks& codebooks_;
  std::vector<std::vector<float>> errors_;  // of each block with each codebook
  std::vector<float> others_;               // the least of them, the codebook in hand left out
  double sum_ = 0;
};

}  // namespace

std::vector<double> refine_codebooks(MatrixView<const std::int16_t> blocks,
                                     std::span<const float> weights, Codebooks& codebooks,
                                     int sweeps) {
  Refiner refiner(blocks, weights, codebooks);
  std::vector<double> sums;
  for (int i = 0; i < sweeps; ++i) {
    const bool moved = refiner.sweep();
    sums.push_back(refiner.sum());
    if (!moved) break;
  }
  return sums;
}

}  // namespace neap
