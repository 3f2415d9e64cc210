#include "quantize/gguf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "base/iq4_nl.h"
#include "base/parallel.h"
#include "neap/error.h"
#include "solve/table_layer.h"

namespace neap {
namespace {

constexpr std::size_t kSub = 16, kSuper = 256;  // weights under a scale of Q6_K, and under the scale of those
constexpr int kLargestSubScale = 127;

GroupLayout group_layout(const GgufLayout& layout) {
  const bool super = layout.type == DType::q6_k;
  const std::size_t group = super ? kSub : block_elements(layout.type);
  return {.bits = code_bits(layout), .group = static_cast<std::int64_t>(group), .symmetric = false, .scale_type = DType::f16};
}

GridForm form_of(const GgufLayout& layout) {
  return has_minima(layout) ? GridForm::half_minimum : GridForm::signed_half;
}

GgufTensor empty_tensor(const GgufLayout& layout, const Grid& grid) {
  return {.layout = layout,
          .rows = static_cast<std::int64_t>(grid.scales.rows()),
          .cols = static_cast<std::int64_t>(grid.cols),
          .codes = {},
          .scales = {},
          .minima = {},
          .sub_scales = {}};
}

// Codes that count from the other end, or from -127, as the file has them.
void turn_codes(const Grid& grid, std::vector<std::uint8_t>& codes) {
  const std::size_t width = grid.group_width();
  const float middle = static_cast<float>(1 << (grid.layout.bits - 1));
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const float zero = grid.zeros(i / grid.cols, i % grid.cols / width);
    if (zero == middle) continue;
    codes[i] = grid.layout.bits == 8 ? static_cast<std::uint8_t>(codes[i] + 1)
                                     : static_cast<std::uint8_t>(grid.highest() - codes[i]);
  }
}

GgufTensor to_gguf(const GgufLayout& layout, const Grid& grid, std::vector<std::uint8_t> codes) {
  GgufTensor tensor = empty_tensor(layout, grid);
  const bool minima = has_minima(layout);
  const float middle = static_cast<float>(1 << (grid.layout.bits - 1));
  for (std::size_t i = 0; i < grid.scales.rows() * grid.scales.cols(); ++i) {
    const float scale = grid.scales.data()[i], zero = grid.zeros.data()[i];
    const bool turned = !minima && zero != middle && grid.layout.bits < 8;
    tensor.scales.push_back(turned ? -scale : scale);
    if (minima) tensor.minima.push_back(half_minimum(-zero * scale));
  }
  if (!minima) turn_codes(grid, codes);
  tensor.codes = std::move(codes);
  return tensor;
}

// One super-block of Q6_K: the nearest multiples of `scale` to the 16 scales that were found one by one.
struct SuperBlock {
  float scale = 0;
  std::array<int, kSuper / kSub> sub{};
};

double error_of(const float* weight, float scale, float zero) {
  double sum = 0;
  for (std::size_t i = 0; i < kSub; ++i) {
    const float code = std::clamp(std::nearbyint(weight[i] / scale + zero), 0.0f, 63.0f);
    const double e = scale * (code - zero) - weight[i];
    sum += e * e;
  }
  return sum;
}

// found: (one row) scales and zeros of the super-block's 16 groups.
SuperBlock share_scale(const float* weight, const float* scales, const float* zeros) {
  SuperBlock block;
  const float largest = *std::max_element(scales, scales + kSuper / kSub);
  block.scale = half_scale(largest / kLargestSubScale);
  for (std::size_t s = 0; s < block.sub.size(); ++s) {
    const int near = static_cast<int>(std::nearbyint(scales[s] / block.scale));
    double least = std::numeric_limits<double>::infinity();
    for (const int sub : {near, near - 1, near + 1}) {
      if (sub < 1 || sub > kLargestSubScale) continue;
      const double error = error_of(weight + kSub * s, block.scale * static_cast<float>(sub), zeros[s]);
      if (error >= least) continue;
      least = error;
      block.sub[s] = sub;
    }
    if (block.sub[s] == 0) block.sub[s] = std::clamp(near, 1, kLargestSubScale);
  }
  return block;
}

GgufTensor round_to_q6_k(MatrixView<const float> weight, const GgufLayout& layout) {
  Grid grid = make_grid(weight, group_layout(layout), GridSearch::weighted, {}, GridForm::signed_half);
  GgufTensor tensor = empty_tensor(layout, grid);
  const std::size_t blocks = grid.cols / kSuper, groups = grid.scales.cols();
  tensor.scales.resize(weight.rows * blocks);
  tensor.sub_scales.resize(weight.rows * groups);
  parallel_for(weight.rows, [&](std::size_t r) {
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::size_t first = b * (kSuper / kSub);
      const SuperBlock block = share_scale(weight.row(r) + b * kSuper, grid.scales.row(r) + first, grid.zeros.row(r) + first);
      tensor.scales[r * blocks + b] = block.scale;
      for (std::size_t s = 0; s < block.sub.size(); ++s) {
        const bool turned = grid.zeros(r, first + s) != 32;
        grid.scales(r, first + s) = block.scale * static_cast<float>(block.sub[s]);
        tensor.sub_scales[r * groups + first + s] = static_cast<std::int8_t>(turned ? -block.sub[s] : block.sub[s]);
      }
    }
  });
  tensor.codes = nearest_codes(weight, grid);
  turn_codes(grid, tensor.codes);
  return tensor;
}

// Every normal fp16 number, before a table that is not symmetric.
TableLayout iq4_nl_tables() {
  TableLayout layout{.array = 32, .block = 1, .tables = {}, .scales = {}, .mirrored = true};
  Table& table = layout.tables.emplace_back();
  std::copy(kIq4NlTable.begin(), kIq4NlTable.end(), table.begin());
  constexpr Fp16 kFirst = 0x0400, kInfinity = 0x7c00;
  for (Fp16 bits = kFirst; bits < kInfinity; ++bits) layout.scales.push_back(fp16_to_float(bits));
  return layout;
}

GgufTensor to_iq4_nl(const TableLayout& layout, const TableTensor& tables) {
  GgufTensor tensor{.layout = {DType::iq4_nl},
                    .rows = static_cast<std::int64_t>(tables.codes.rows()),
                    .cols = static_cast<std::int64_t>(tables.codes.cols()),
                    .codes = {},
                    .scales = {},
                    .minima = {},
                    .sub_scales = {}};
  tensor.codes.assign(tables.codes.data(), tables.codes.data() + tables.codes.rows() * tables.codes.cols());
  for (std::size_t i = 0; i < tables.scales.rows() * tables.scales.cols(); ++i) {
    tensor.scales.push_back(scale_value(layout, tables.scales.data()[i]));
  }
  return tensor;
}

GgufTensor round_to_iq4_nl(MatrixView<const float> weight, std::span<const float> importance) {
  const TableLayout layout = iq4_nl_tables();
  return to_iq4_nl(layout, round_to_tables(weight, layout, search_scales(weight, layout, importance), {}));
}

}  // namespace

GgufSolution solve_gguf(const LayerSystem& system, MatrixView<const float> weight, const GgufLayout& layout,
                        const SolveOptions& options, std::uint64_t key) {
  NEAP_CHECK(layout.type != DType::q6_k);
  if (layout.type == DType::iq4_nl) {
    const TableLayout tables = iq4_nl_tables();
    TableSolution solution = solve_table_layer(system, weight, tables, options);
    return {to_iq4_nl(tables, solution.tensor), std::move(solution.report)};
  }
  GridSolution solution = solve_layer_in_form(system, weight, group_layout(layout), form_of(layout), options, key);
  return {to_gguf(layout, solution.grid, std::move(solution.codes)), std::move(solution.report)};
}

GgufTensor round_to_gguf(MatrixView<const float> weight, const GgufLayout& layout, std::span<const float> importance) {
  require_finite(weight);
  if (layout.type == DType::q6_k) return round_to_q6_k(weight, layout);
  if (layout.type == DType::iq4_nl) return round_to_iq4_nl(weight, importance);
  const Grid grid = make_grid(weight, group_layout(layout), GridSearch::weighted, importance, form_of(layout));
  return to_gguf(layout, grid, nearest_codes(weight, grid));
}

}  // namespace neap
