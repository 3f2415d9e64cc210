#include "solve/grid.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "base/half.h"
#include "base/multiversion.h"
#include "base/parallel.h"
#include "neap/error.h"
#include "solve/snap.h"

namespace neap {
namespace {

constexpr float kSmallestScale = 0x1p-14f;            // fp16's smallest normal number
constexpr float kLargestScale = 255.0f * 0x1p8f;      // 8 significant bits below fp16's 65504
constexpr float kSmallestHalf = 0x1p-24f, kLargestHalf = 65504;
constexpr std::size_t kRowsPerTile = 16;

// Ranges from all of [low, high] down to half of it.
constexpr int kShrinks = 26;
constexpr float kShrinkStep = 0.02f;
constexpr int kPolishes = 4;

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

// Sums over a group under importance: of 1, of the code c, of c^2, of the weight w, of c w.
struct Moments {
  double one = 0, code = 0, square = 0, weight = 0, product = 0;
};

struct GroupSearch {
  const float* weight;
  const float* importance;
  std::size_t count;
  float highest;
  bool symmetric;
  GridSearch search;
  GridForm form;

  Candidate best() const {
    switch (form) {
      case GridForm::zero_points: return best_with_zero_point();
      case GridForm::signed_half: return best_with_sign();
      case GridForm::half_minimum: return best_with_minimum();
    }
    return {};
  }

  float error(Candidate c) const {
    return weighted_error(weight, importance, count, c.scale, c.zero, highest);
  }

  std::pair<float, float> range() const {
    const auto [lowest, largest] = std::minmax_element(weight, weight + count);
    return {*lowest, *largest};
  }

  // Whichever of two is better stays, and what it costs.
  void keep_better(Candidate candidate, Candidate& best, float& least) const {
    const float here = error(candidate);
    if (here >= least) return;
    least = here;
    best = candidate;
  }

  Candidate full_range(float shrink) const {
    const auto [lowest, largest] = range();
    const float low = std::min(lowest, 0.0f), high = std::max(largest, 0.0f);
    if (symmetric) {
      const float zero = 0.5f * (highest + 1);
      const float scale = std::max(-low / zero, high / std::max(highest - zero, 1.0f));
      return {portable_scale(shrink * scale), zero};
    }
    const float scale = portable_scale(shrink * (high - low) / highest);
    return {scale, std::clamp(std::nearbyint(-shrink * low / scale), 0.0f, highest)};
  }

  Candidate best_with_zero_point() const {
    Candidate best = full_range(1);
    if (search == GridSearch::range) return best;
    float least = error(best);
    for (int k = 0; k < kShrinks; ++k) {
      const Candidate middle = full_range(1 - kShrinkStep * static_cast<float>(k));
      for (const float shift : {0.0f, -1.0f, 1.0f}) {
        if (shift != 0 && symmetric) continue;
        const Candidate c{middle.scale, middle.zero + shift};
        if (c.zero < 0 || c.zero > highest) continue;
        keep_better(c, best, least);
      }
    }
    return best;
  }

  Moments moments(Candidate at) const {
    Moments m;
    for (std::size_t i = 0; i < count; ++i) {
      const double code = nearest_code(weight[i], at.scale, at.zero, highest), share = importance[i];
      m.one += share;
      m.code += share * code;
      m.square += share * code * code;
      m.weight += share * weight[i];
      m.product += share * code * weight[i];
    }
    return m;
  }

  // The least squares of a candidate's own codes, as often as that gains.
  template <class Fit>
  void polish(const Fit& fit, Candidate& best, float& least) const {
    for (int round = 0; round < kPolishes; ++round) {
      const float before = least;
      const std::optional<Candidate> next = fit(best, moments(best));
      if (next) keep_better(*next, best, least);
      if (least == before) return;
    }
  }

  Candidate best_with_sign() const {
    const auto [low, high] = range();
    const float middle = std::ceil(0.5f * highest);
    Candidate best{half_scale(0), middle};
    float least = std::numeric_limits<float>::infinity();
    for (const float zero : {middle, highest - middle}) {
      const float scale = std::max({-low / zero, high / (highest - zero), 0.0f});
      for (int k = 0; k < (search == GridSearch::range ? 1 : kShrinks); ++k) {
        keep_better({half_scale((1 - kShrinkStep * static_cast<float>(k)) * scale), zero}, best, least);
      }
    }
    if (search == GridSearch::range) return best;
    polish(
        [](Candidate at, const Moments& m) -> std::optional<Candidate> {
          const double square = m.square - 2 * at.zero * m.code + at.zero * at.zero * m.one;
          const double scale = (m.product - at.zero * m.weight) / square;
          if (!(square > 0 && scale > 0)) return {};
          return Candidate{half_scale(static_cast<float>(scale)), at.zero};
        },
        best, least);
    return best;
  }

  static Candidate with_minimum(float scale, float minimum) {
    const float stored = half_scale(scale);
    return {stored, -half_minimum(minimum) / stored};
  }

  Candidate best_with_minimum() const {
    const auto [low, high] = range();
    Candidate best = with_minimum((high - low) / highest, low);
    if (search == GridSearch::range) return best;
    float least = error(best);
    for (int k = 0; k < kShrinks; ++k) {
      const float lost = kShrinkStep * static_cast<float>(k) * (high - low);
      for (const float below : {0.5f, 0.25f, 0.75f}) {  // of what the range loses
        keep_better(with_minimum((high - low - lost) / highest, low + below * lost), best, least);
      }
    }
    polish(
        [](Candidate, const Moments& m) -> std::optional<Candidate> {
          const double spread = m.one * m.square - m.code * m.code;
          const double scale = (m.one * m.product - m.code * m.weight) / spread;
          if (!(spread > 0 && scale > 0)) return {};
          return with_minimum(static_cast<float>(scale), static_cast<float>((m.weight - scale * m.code) / m.one));
        },
        best, least);
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

float half_scale(float value) { return std::max(half_minimum(value), kSmallestHalf); }

float half_minimum(float value) {
  return fp16_to_float(float_to_fp16(std::clamp(value, -kLargestHalf, kLargestHalf)));
}

Grid empty_grid(const GroupLayout& layout, std::size_t rows, std::size_t cols, GridForm form) {
  if (layout.bits < 1 || layout.bits > 8) {
    throw Error(ErrorCode::argument, "bits must lie in 1 .. 8",
                {.found = std::to_string(layout.bits)});
  }
  if (layout.group < 0) {
    throw Error(ErrorCode::argument, "a group holds at least one input, or 0 stands for the whole row",
                {.found = std::to_string(layout.group)});
  }
  Grid grid{layout, cols, {}, {}, form};
  const std::size_t groups = (cols + grid.group_width() - 1) / grid.group_width();
  grid.scales = Matrix<float>(rows, groups);
  grid.zeros = Matrix<float>(rows, groups);
  return grid;
}

Grid make_grid(MatrixView<const float> weight, const GroupLayout& layout, GridSearch search,
               std::span<const float> importance, GridForm form) {
  NEAP_CHECK(importance.empty() || importance.size() == weight.cols);
  Grid grid = empty_grid(layout, weight.rows, weight.cols, form);
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
                                static_cast<float>(grid.highest()), layout.symmetric, search, form};
        const Candidate c = group.best();
        grid.scales(r, g) = c.scale;
        grid.zeros(r, g) = c.zero;
      }
    }
  });
  return grid;
}

}  // namespace neap
