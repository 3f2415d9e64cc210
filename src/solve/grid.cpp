#include "solve/grid.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "base/parallel.h"
#include "neap/error.h"
#include "solve/group_search.h"
#include "solve/super_block_search.h"

namespace neap {
namespace {

constexpr float kSmallestScale = 0x1p-14f;            // fp16's smallest normal number
constexpr float kLargestScale = 255.0f * 0x1p8f;      // 8 significant bits below fp16's 65504
constexpr float kSmallestHalf = 0x1p-24f, kLargestHalf = 65504;
constexpr std::size_t kRowsPerTile = 16;

}  // namespace

std::size_t Grid::group_width() const {
  return layout.group == 0 ? cols : std::min<std::size_t>(layout.group, cols);
}

int Grid::highest_sub_scale() const {
  if (form == GridForm::super_minimum) return layout.bits == 2 ? 15 : 63;
  return layout.bits == 3 ? 31 : 127;
}

void Grid::apply_levels(std::size_t row, std::size_t group) {
  const std::size_t block = group * group_width() / kSuperBlock;
  const auto sub_scale = static_cast<float>(super_blocks.sub_scales(row, group));
  scales(row, group) = super_blocks.scales(row, block) * std::abs(sub_scale);
  if (form == GridForm::super_minimum) {
    const auto sub_minimum = static_cast<float>(super_blocks.sub_minima(row, group));
    zeros(row, group) = super_blocks.minima(row, block) * sub_minimum / scales(row, group);
  } else {
    zeros(row, group) = static_cast<float>((1 << (layout.bits - 1)) - (sub_scale < 0 ? 1 : 0));
  }
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
  Grid grid{layout, cols, {}, {}, form, {}};
  const std::size_t groups = (cols + grid.group_width() - 1) / grid.group_width();
  grid.scales = Matrix<float>(rows, groups);
  grid.zeros = Matrix<float>(rows, groups);
  if (!grid.two_levels()) return grid;
  NEAP_CHECK(cols % kSuperBlock == 0 && kSuperBlock % grid.group_width() == 0);
  SuperBlocks& super = grid.super_blocks;
  super.scales = Matrix<float>(rows, cols / kSuperBlock);
  super.sub_scales = Matrix<std::int8_t>(rows, groups);
  if (form != GridForm::super_minimum) return grid;
  super.minima = Matrix<float>(rows, cols / kSuperBlock);
  super.sub_minima = Matrix<std::uint8_t>(rows, groups);
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
        const GroupScale c = group.best();
        grid.scales(r, g) = c.scale;
        grid.zeros(r, g) = c.zero;
      }
      if (grid.two_levels()) search_super_blocks(weight.row(r), weights, r, grid);
    }
  });
  return grid;
}

void copy_rows(const Grid& from, std::size_t first, Grid& to, std::size_t to_first, std::size_t count) {
  const auto copy = [&](const auto& a, auto& b) {
    if (a.rows() > 0) std::copy_n(a.row(first), count * a.cols(), b.row(to_first));
  };
  copy(from.scales, to.scales);
  copy(from.zeros, to.zeros);
  copy(from.super_blocks.scales, to.super_blocks.scales);
  copy(from.super_blocks.minima, to.super_blocks.minima);
  copy(from.super_blocks.sub_scales, to.super_blocks.sub_scales);
  copy(from.super_blocks.sub_minima, to.super_blocks.sub_minima);
}

}  // namespace neap
