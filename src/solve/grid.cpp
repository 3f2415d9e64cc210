#include "solve/grid.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "base/multiversion.h"
#include "base/parallel.h"
#include "neap/error.h"
#include "solve/snap.h"

namespace neap {
namespace {

constexpr float kSmallestScale = 0x1p-14f;            // fp16's smallest normal number
constexpr float kLargestScale = 255.0f * 0x1p8f;      // 8 significant bits below fp16's 65504
constexpr std::size_t kRowsPerTile = 16;

// Ranges from all of [low, high] down to half of it.
constexpr int kShrinks = 26;
constexpr float kShrinkStep = 0.02f;

struct Candidate {
  float scale, zero;
};

NEAP_MULTIVERSION
float weighted_error(const float* weight, const float* importance, std::size_t count, float scale,
                     float zero, float highest) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < count; ++i) {
    const float e = scale * (nearest_code(weight[i], scale, zero, highest) - zero) - weight[i];
    sum += importance[i] * e * e;
  }
  return sum;
}

struct GroupSearch {
  const float* weight;
  const float* importance;
  std::size_t count;
  float highest;
  bool symmetric;
  GridSearch search;

  Candidate full_range(float shrink) const {
    const auto [lowest_at, highest_at] = std::minmax_element(weight, weight + count);
    const float low = std::min(*lowest_at, 0.0f), high = std::max(*highest_at, 0.0f);
    if (symmetric) {
      const float zero = 0.5f * (highest + 1);
      const float scale = std::max(-low / zero, high / std::max(highest - zero, 1.0f));
      return {portable_scale(shrink * scale), zero};
    }
    const float scale = portable_scale(shrink * (high - low) / highest);
    return {scale, std::clamp(std::nearbyint(-shrink * low / scale), 0.0f, highest)};
  }

  float error(Candidate c) const {
    return weighted_error(weight, importance, count, c.scale, c.zero, highest);
  }

  Candidate best() const {
    Candidate best = full_range(1);
    if (search == GridSearch::range) return best;
    float least = error(best);
    for (int k = 0; k < kShrinks; ++k) {
      const Candidate middle = full_range(1 - kShrinkStep * static_cast<float>(k));
      for (const float shift : {0.0f, -1.0f, 1.0f}) {
        if (shift != 0 && symmetric) continue;
        const Candidate c{middle.scale, middle.zero + shift};
        if (c.zero < 0 || c.zero > highest) continue;
        const float here = error(c);
        if (here >= least) continue;
        least = here;
        best = c;
      }
    }
    return best;
  }
};

}  // namespace

std::size_t Grid::group_width() const {
  return layout.group == 0 ? cols : std::min<std::size_t>(layout.group, cols);
}

float portable_scale(float value) {
  return std::clamp(bf16_to_float(float_to_bf16(value)), kSmallestScale, kLargestScale);
}

Grid empty_grid(const GroupLayout& layout, std::size_t rows, std::size_t cols) {
  if (layout.bits < 1 || layout.bits > 8) {
    throw Error(ErrorCode::argument, "bits must lie in 1 .. 8",
                {.found = std::to_string(layout.bits)});
  }
  if (layout.group < 0) {
    throw Error(ErrorCode::argument, "a group holds at least one input, or 0 stands for the whole row",
                {.found = std::to_string(layout.group)});
  }
  Grid grid{layout, cols, {}, {}};
  const std::size_t groups = (cols + grid.group_width() - 1) / grid.group_width();
  grid.scales = Matrix<float>(rows, groups);
  grid.zeros = Matrix<float>(rows, groups);
  return grid;
}

Grid make_grid(MatrixView<const float> weight, const GroupLayout& layout, GridSearch search,
               std::span<const float> importance) {
  NEAP_CHECK(importance.empty() || importance.size() == weight.cols);
  Grid grid = empty_grid(layout, weight.rows, weight.cols);
  const std::size_t width = grid.group_width(), groups = grid.scales.cols();
  const std::vector<float> ones(importance.empty() ? weight.cols : 0, 1.0f);
  const float* weights = importance.empty() ? ones.data() : importance.data();
  parallel_for((weight.rows + kRowsPerTile - 1) / kRowsPerTile, [&](std::size_t tile) {
    const std::size_t end = std::min(weight.rows, (tile + 1) * kRowsPerTile);
    for (std::size_t r = tile * kRowsPerTile; r < end; ++r) {
      for (std::size_t g = 0; g < groups; ++g) {
        const std::size_t first = g * width;
        const GroupSearch group{weight.row(r) + first, weights + first,
                                std::min(width, weight.cols - first),
                                static_cast<float>(grid.highest()), layout.symmetric, search};
        const Candidate c = group.best();
        grid.scales(r, g) = c.scale;
        grid.zeros(r, g) = c.zero;
      }
    }
  });
  return grid;
}

}  // namespace neap
