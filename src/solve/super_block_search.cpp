#include "solve/super_block_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "solve/group_search.h"

namespace neap {
namespace {

// By how much the largest group's integer passes the end of its range, or falls short of it, before it is rounded.
constexpr std::array kExcesses = {0.0f, 0.5f, 1.0f, 2.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f};
constexpr int kPolishes = 6;

struct Levels {
  float scale = 0, minimum = 0;  // of the super-block
};

// What a group has under given Levels.
struct GroupChoice {
  int scale = 1, minimum = 0;  // scale: negative where codes count from the other end
  GroupScale stands_for{};
  float error = std::numeric_limits<float>::infinity();
};

struct Choice {
  Levels levels;
  std::vector<GroupChoice> groups;
  double error = std::numeric_limits<double>::infinity();
};

class SuperBlockSearch {
 public:
  // groups: those of one super-block, free: their own best.
  SuperBlockSearch(std::vector<GroupSearch> groups, std::vector<GroupScale> free, const Grid& grid)
      : groups_(std::move(groups)), free_(std::move(free)), highest_(grid.highest_sub_scale()),
        minima_(grid.form == GridForm::super_minimum), middle_(static_cast<float>(1 << (grid.layout.bits - 1))) {
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      const GroupMoments m = groups_[g].moments(free_[g]);
      mean_codes_.push_back(m.one > 0 ? static_cast<float>(m.code / m.one) : 0.5f * groups_[g].highest);
    }
  }

  Choice best() const {
    float largest = 0, deepest = 0;
    for (const GroupScale& free : free_) {
      largest = std::max(largest, free.scale);
      deepest = std::max(deepest, free.scale * free.zero);
    }
    const auto level = [&](float most, float excess) { return most / (static_cast<float>(highest_) + excess); };
    const Levels start{half_scale(level(largest, 0)), minima_ ? half_minimum(level(deepest, 0)) : 0};
    Choice best = choose(start);
    for (const float excess : kExcesses) {
      keep_better(choose({half_scale(level(largest, excess)), start.minimum}), best);
    }
    for (const float excess : kExcesses) {
      if (minima_) keep_better(choose({best.levels.scale, half_minimum(level(deepest, excess))}), best);
    }
    for (int round = 0; round < kPolishes; ++round) {
      const double before = best.error;
      keep_better(choose(fitted(best)), best);
      if (!(best.error < before)) break;
    }
    return best;
  }

 private:
  static void keep_better(Choice candidate, Choice& best) {
    if (candidate.error < best.error) best = std::move(candidate);
  }

  Choice choose(Levels levels) const {
    Choice choice{levels, {}, 0};
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      choice.groups.push_back(minima_ ? with_minimum(g, levels) : with_sign(g, levels));
      choice.error += choice.groups.back().error;
    }
    return choice;
  }

  void keep_better(std::size_t g, GroupChoice candidate, GroupChoice& best) const {
    candidate.error = groups_[g].error(candidate.stands_for);
    if (candidate.error < best.error) best = candidate;
  }

  int clamped(float number, int lowest) const {
    return static_cast<int>(std::clamp(number, static_cast<float>(lowest), static_cast<float>(highest_)));
  }

  // The integers next to the group's own scale, and for each those next to the minimum that goes with it.
  GroupChoice with_minimum(std::size_t g, Levels levels) const {
    GroupChoice best;
    const float near = std::nearbyint(free_[g].scale / levels.scale);
    for (const float step : {0.0f, -1.0f, 1.0f}) {
      const int scale = clamped(near + step, 1);
      const float value = levels.scale * static_cast<float>(scale);
      // The mean of the weights stays where it is.
      const float wish = free_[g].scale * free_[g].zero + (value - free_[g].scale) * mean_codes_[g];
      const float near_minimum = levels.minimum > 0 ? std::nearbyint(wish / levels.minimum) : 0;
      for (const float shift : {0.0f, -1.0f, 1.0f}) {
        const int minimum = levels.minimum > 0 ? clamped(near_minimum + shift, 0) : 0;
        keep_better(g, {scale, minimum, {value, levels.minimum * static_cast<float>(minimum) / value}, 0}, best);
      }
    }
    return best;
  }

  GroupChoice with_sign(std::size_t g, Levels levels) const {
    GroupChoice best;
    const float near = std::nearbyint(free_[g].scale / levels.scale);
    for (const float step : {0.0f, -1.0f, 1.0f}) {
      const int scale = clamped(near + step, 1);
      const float value = levels.scale * static_cast<float>(scale);
      keep_better(g, {scale, 0, {value, middle_}, 0}, best);
      keep_better(g, {-scale, 0, {value, middle_ - 1}, 0}, best);
    }
    return best;
  }

  // Weights are scale a - minimum b with a, b whole numbers once codes and groups' integers are held.
  Levels fitted(const Choice& choice) const {
    double aa = 0, ab = 0, bb = 0, aw = 0, bw = 0;
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      const GroupChoice& group = choice.groups[g];
      const GroupMoments m = groups_[g].moments(group.stands_for);
      const double scale = std::abs(group.scale), zero = minima_ ? 0.0 : double{group.stands_for.zero}, minimum = group.minimum;
      aa += scale * scale * (m.square - 2 * zero * m.code + zero * zero * m.one);
      aw += scale * (m.product - zero * m.weight);
      ab += scale * minimum * m.code;
      bb += minimum * minimum * m.one;
      bw += minimum * m.weight;
    }
    const double determinant = aa * bb - ab * ab;
    Levels fit = choice.levels;
    if (determinant > 1e-9 * aa * bb) {
      fit.scale = static_cast<float>((aw * bb - bw * ab) / determinant);
      fit.minimum = static_cast<float>((aw * ab - bw * aa) / determinant);
    } else if (aa > 0) {
      fit.scale = static_cast<float>((aw + ab * fit.minimum) / aa);
    }
    if (!(fit.scale > 0) || !(fit.minimum >= 0)) return choice.levels;
    return {half_scale(fit.scale), half_minimum(fit.minimum)};
  }

  std::vector<GroupSearch> groups_;
  std::vector<GroupScale> free_;
  std::vector<float> mean_codes_;
  int highest_;  // of the groups' integers
  bool minima_;
  float middle_;  // code of zero, without minima
};

}  // namespace

void search_super_blocks(const float* weight, const float* importance, std::size_t row, Grid& grid) {
  const std::size_t width = grid.group_width(), count = kSuperBlock / width;
  SuperBlocks& super = grid.super_blocks;
  for (std::size_t block = 0; block < super.scales.cols(); ++block) {
    const std::size_t first = block * count;
    std::vector<GroupSearch> groups;
    std::vector<GroupScale> free;
    for (std::size_t g = first; g < first + count; ++g) {
      groups.push_back({weight + g * width, importance + g * width, width, static_cast<float>(grid.highest()), false,
                        GridSearch::weighted, grid.form});
      free.push_back({grid.scales(row, g), grid.zeros(row, g)});
    }
    const Choice best = SuperBlockSearch(std::move(groups), std::move(free), grid).best();
    super.scales(row, block) = best.levels.scale;
    if (grid.form == GridForm::super_minimum) super.minima(row, block) = best.levels.minimum;
    for (std::size_t g = 0; g < count; ++g) {
      super.sub_scales(row, first + g) = static_cast<std::int8_t>(best.groups[g].scale);
      if (grid.form == GridForm::super_minimum) {
        super.sub_minima(row, first + g) = static_cast<std::uint8_t>(best.groups[g].minimum);
      }
      grid.apply_levels(row, first + g);
    }
  }
}

}  // namespace neap
