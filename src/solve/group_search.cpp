#include "solve/group_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "base/multiversion.h"
#include "solve/snap.h"

namespace neap {
namespace {

// Ranges from all of [low, high] down to half of it.
constexpr int kShrinks = 26;
constexpr float kShrinkStep = 0.02f;
constexpr int kPolishes = 4;

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

std::pair<float, float> range(const GroupSearch& group) {
  const auto [lowest, largest] = std::minmax_element(group.weight, group.weight + group.count);
  return {*lowest, *largest};
}

// Whichever of two is better stays, and what it costs.
void keep_better(const GroupSearch& group, GroupScale candidate, GroupScale& best, float& least) {
  const float here = group.error(candidate);
  if (here >= least) return;
  least = here;
  best = candidate;
}

GroupScale shrunk_range(const GroupSearch& group, float shrink) {
  const auto [lowest, largest] = range(group);
  const float low = std::min(lowest, 0.0f), high = std::max(largest, 0.0f), highest = group.highest;
  if (group.symmetric) {
    const float zero = 0.5f * (highest + 1);
    const float scale = std::max(-low / zero, high / std::max(highest - zero, 1.0f));
    return {portable_scale(shrink * scale), zero};
  }
  const float scale = portable_scale(shrink * (high - low) / highest);
  return {scale, std::clamp(std::nearbyint(-shrink * low / scale), 0.0f, highest)};
}

GroupScale best_with_zero_point(const GroupSearch& group) {
  GroupScale best = shrunk_range(group, 1);
  if (group.search == GridSearch::range) return best;
  float least = group.error(best);
  for (int k = 0; k < kShrinks; ++k) {
    const GroupScale middle = shrunk_range(group, 1 - kShrinkStep * static_cast<float>(k));
    for (const float shift : {0.0f, -1.0f, 1.0f}) {
      if (shift != 0 && group.symmetric) continue;
      const GroupScale c{middle.scale, middle.zero + shift};
      if (c.zero < 0 || c.zero > group.highest) continue;
      keep_better(group, c, best, least);
    }
  }
  return best;
}

// The least squares of a candidate's own codes, as often as that gains.
template <class Fit>
void polish(const GroupSearch& group, const Fit& fit, GroupScale& best, float& least) {
  for (int round = 0; round < kPolishes; ++round) {
    const float before = least;
    const std::optional<GroupScale> next = fit(best, group.moments(best));
    if (next) keep_better(group, *next, best, least);
    if (least == before) return;
  }
}

GroupScale best_with_sign(const GroupSearch& group) {
  const auto [low, high] = range(group);
  const float middle = std::ceil(0.5f * group.highest);
  GroupScale best{half_scale(0), middle};
  float least = std::numeric_limits<float>::infinity();
  for (const float zero : {middle, group.highest - middle}) {
    const float scale = std::max({-low / zero, high / (group.highest - zero), 0.0f});
    for (int k = 0; k < (group.search == GridSearch::range ? 1 : kShrinks); ++k) {
      keep_better(group, {half_scale((1 - kShrinkStep * static_cast<float>(k)) * scale), zero}, best, least);
    }
  }
  if (group.search == GridSearch::range) return best;
  polish(
      group,
      [](GroupScale at, const GroupMoments& m) -> std::optional<GroupScale> {
        const double square = m.square - 2 * at.zero * m.code + at.zero * at.zero * m.one;
        const double scale = (m.product - at.zero * m.weight) / square;
        if (!(square > 0 && scale > 0)) return {};
        return GroupScale{half_scale(static_cast<float>(scale)), at.zero};
      },
      best, least);
  return best;
}

GroupScale with_minimum(const GroupSearch& group, float scale, float minimum) {
  const float stored = half_scale(scale);
  if (group.form == GridForm::super_minimum) minimum = std::min(minimum, 0.0f);
  return {stored, -half_minimum(minimum) / stored};
}

// Least squares of scale and minimum, or of the scale alone where the minimum would be more than it may.
std::optional<GroupScale> fitted_with_minimum(const GroupSearch& group, const GroupMoments& m) {
  const double spread = m.one * m.square - m.code * m.code;
  const double scale = (m.one * m.product - m.code * m.weight) / spread;
  if (!(spread > 0 && scale > 0)) return {};
  const double minimum = (m.weight - scale * m.code) / m.one;
  if (group.form == GridForm::super_minimum && minimum > 0) {
    return with_minimum(group, static_cast<float>(m.product / m.square), 0);
  }
  return with_minimum(group, static_cast<float>(scale), static_cast<float>(minimum));
}

GroupScale best_with_minimum(const GroupSearch& group) {
  auto [low, high] = range(group);
  if (group.form == GridForm::super_minimum) {
    low = std::min(low, 0.0f);
    high = std::max(high, 0.0f);
  }
  const float width = high - low;
  GroupScale best = with_minimum(group, width / group.highest, low);
  if (group.search == GridSearch::range) return best;
  float least = group.error(best);
  for (int k = 0; k < kShrinks; ++k) {
    const float lost = kShrinkStep * static_cast<float>(k) * width;
    for (const float below : {0.5f, 0.25f, 0.75f}) {  // of what the range loses
      keep_better(group, with_minimum(group, (width - lost) / group.highest, low + below * lost), best, least);
    }
  }
  polish(group, [&](GroupScale, const GroupMoments& m) { return fitted_with_minimum(group, m); }, best, least);
  return best;
}

}  // namespace

GroupScale GroupSearch::best() const {
  switch (form) {
    case GridForm::zero_points: return best_with_zero_point(*this);
    case GridForm::signed_half:
    case GridForm::super_signed: return best_with_sign(*this);
    case GridForm::half_minimum:
    case GridForm::super_minimum: return best_with_minimum(*this);
  }
  return {};
}

float GroupSearch::error(GroupScale at) const {
  return weighted_error(weight, importance, count, at.scale, at.zero, highest);
}

GroupMoments GroupSearch::moments(GroupScale at) const {
  GroupMoments m;
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

}  // namespace neap
