#include "solve/table_grid.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/multiversion.h"
#include "base/parallel.h"

namespace neap {
namespace {

constexpr std::size_t kRowsPerTile = 16, kWidest = 256;  // of an array
// Scales looked at: from this share of the one that takes an array's largest value to the largest entry, up to a little
// more than the one that takes it to the entry before: E2M1 has nothing between 6 and 4, where most may be better off.
constexpr float kSmallest = 0.5f, kMargin = 1.1f;
constexpr std::size_t kCandidates = 32;

struct Entries {
  float largest = 0, before = 0;  // by magnitude; of one side of one table

  explicit Entries(const TableLayout& layout) {
    for (const Table& table : layout.tables) {
      look_at(table);
      Table turned;
      for (std::size_t e = 0; e < kTableEntries; ++e) turned[e] = -table[kTableEntries - 1 - e];
      look_at(turned);
    }
  }

 private:
  void look_at(const Table& ascending) {
    if (ascending.back() <= largest) return;
    largest = ascending.back();
    const auto other = std::find_if(ascending.rbegin(), ascending.rend(), [&](float entry) { return entry < largest; });
    before = other != ascending.rend() && *other > 0 ? *other : largest;
  }
};

// importance (value - nearest entry)^2 of each value; values already divided by the scale.
NEAP_MULTIVERSION
void table_errors(const float* value, const float* importance, std::size_t count, const float* table,
                  float* __restrict error) {
  for (std::size_t i = 0; i < count; ++i) {
    float least = (value[i] - table[0]) * (value[i] - table[0]);
    for (std::size_t e = 1; e < kTableEntries; ++e) {
      least = std::min(least, (value[i] - table[e]) * (value[i] - table[e]));
    }
    error[i] = importance[i] * least;
  }
}

// One array of one row.
class Array {
 public:
  Array(const TableLayout& layout, const float* weight, const float* importance, std::size_t count)
      : layout_(layout), weight_(weight), importance_(importance), count_(count) {}

  std::int32_t best_scale(const Entries& entries) const {
    float largest = 0;
    for (std::size_t i = 0; i < count_; ++i) largest = std::max(largest, std::abs(weight_[i]));
    if (largest == 0) return 0;
    const auto at = [&](float scale) {
      const auto place = std::lower_bound(layout_.scales.begin(), layout_.scales.end(), scale);
      return std::min<std::size_t>(place - layout_.scales.begin(), layout_.scales.size() - 1);
    };
    const std::size_t first = at(kSmallest * largest / entries.largest), last = at(kMargin * largest / entries.before),
                      step = (last - first) / kCandidates + 1;
    std::int32_t best = 0;
    float least = std::numeric_limits<float>::infinity();
    for (std::size_t s = first; s <= last; s += step) {
      for (const int sign : {1, -1}) {
        if (sign < 0 && !layout_.mirrored) continue;
        const auto scale = static_cast<std::int32_t>(sign * static_cast<std::int32_t>(s + 1));
        const float here = error(scale_value(layout_, scale));
        if (here >= least) continue;
        least = here;
        best = scale;
      }
    }
    return best;
  }

  // Table and codes of every block.
  void round(float scale, std::uint8_t* codes, std::uint8_t* selectors) const {
    normalize(scale);
    for (std::size_t b = 0; b * layout_.block < count_; ++b) {
      const std::size_t first = b * layout_.block, size = std::min(layout_.block, count_ - first);
      float least = std::numeric_limits<float>::infinity();
      for (std::size_t t = 0; t < layout_.tables.size(); ++t) {
        table_errors(values_ + first, importance_ + first, size, layout_.tables[t].data(), errors_);
        float sum = 0;
        for (std::size_t i = 0; i < size; ++i) sum += errors_[i];
        if (sum >= least) continue;
        least = sum;
        selectors[b] = static_cast<std::uint8_t>(t);
      }
      for (std::size_t i = first; i < first + size; ++i) codes[i] = nearest(layout_.tables[selectors[b]], values_[i]);
    }
  }

 private:
  static std::uint8_t nearest(const Table& table, float value) {
    std::size_t best = 0;
    for (std::size_t e = 1; e < kTableEntries; ++e) {
      if (std::abs(value - table[e]) < std::abs(value - table[best])) best = e;
    }
    return static_cast<std::uint8_t>(best);
  }

  void normalize(float scale) const {
    for (std::size_t i = 0; i < count_; ++i) values_[i] = scale == 0 ? 0 : weight_[i] / scale;
  }

  float error(float scale) const {
    normalize(scale);
    float best[kWidest];
    const std::size_t blocks = (count_ + layout_.block - 1) / layout_.block;
    std::fill_n(best, blocks, std::numeric_limits<float>::infinity());
    for (const Table& table : layout_.tables) {
      table_errors(values_, importance_, count_, table.data(), errors_);
      for (std::size_t b = 0; b < blocks; ++b) {
        float sum = 0;
        const std::size_t end = std::min(count_, (b + 1) * layout_.block);
        for (std::size_t i = b * layout_.block; i < end; ++i) sum += errors_[i];
        best[b] = std::min(best[b], sum);
      }
    }
    float sum = 0;
    for (std::size_t b = 0; b < blocks; ++b) sum += best[b];
    return sum * scale * scale;
  }

  const TableLayout& layout_;
  const float *weight_, *importance_;
  std::size_t count_;
  mutable float values_[kWidest], errors_[kWidest];  // scratch
};

// Calls visit(row, index of the array, Array) for all of a matrix.
template <class Visit>
void for_arrays(MatrixView<const float> weight, const TableLayout& layout, std::span<const float> importance,
                const Visit& visit) {
  NEAP_CHECK(importance.empty() || importance.size() == weight.cols);
  NEAP_CHECK(layout.array <= kWidest && layout.array % layout.block == 0 && !layout.scales.empty());
  const std::vector<float> ones(importance.empty() ? weight.cols : 0, 1.0f);
  const float* weights = importance.empty() ? ones.data() : importance.data();
  parallel_for((weight.rows + kRowsPerTile - 1) / kRowsPerTile, [&](std::size_t tile) {
    for (std::size_t r = tile * kRowsPerTile; r < std::min(weight.rows, (tile + 1) * kRowsPerTile); ++r) {
      for (std::size_t a = 0; a < layout.arrays(weight.cols); ++a) {
        const std::size_t first = a * layout.array, count = std::min(layout.array, weight.cols - first);
        visit(r, a, Array(layout, weight.row(r) + first, weights + first, count));
      }
    }
  });
}

}  // namespace

Matrix<std::int32_t> search_scales(MatrixView<const float> weight, const TableLayout& layout,
                                   std::span<const float> importance) {
  Matrix<std::int32_t> scales(weight.rows, layout.arrays(weight.cols));
  const Entries entries(layout);
  for_arrays(weight, layout, importance,
             [&](std::size_t r, std::size_t a, const Array& array) { scales(r, a) = array.best_scale(entries); });
  return scales;
}

TableTensor round_to_tables(MatrixView<const float> weight, const TableLayout& layout, const Matrix<std::int32_t>& scales,
                            std::span<const float> importance) {
  TableTensor tensor{Matrix<std::uint8_t>(weight.rows, weight.cols),
                     Matrix<std::uint8_t>(weight.rows, layout.blocks(weight.cols)), scales};
  for_arrays(weight, layout, importance, [&](std::size_t r, std::size_t a, const Array& array) {
    if (scales(r, a) == 0) return;
    array.round(scale_value(layout, scales(r, a)), tensor.codes.row(r) + a * layout.array,
                tensor.selectors.row(r) + a * layout.array / layout.block);
  });
  return tensor;
}

void dequantize(const TableTensor& tensor, const TableLayout& layout, std::size_t first, MatrixView<float> out) {
  for (std::size_t r = 0; r < out.rows; ++r) {
    for (std::size_t c = 0; c < out.cols; ++c) {
      const float scale = scale_value(layout, tensor.scales(first + r, c / layout.array));
      const Table& table = layout.tables[tensor.selectors(first + r, c / layout.block)];
      out(r, c) = scale == 0 ? 0 : scale * table[tensor.codes(first + r, c)];
    }
  }
}

}  // namespace neap
