#include "quantize/gguf.h"

#include <algorithm>
#include <optional>

#include "base/half.h"
#include "base/iq4_nl.h"
#include "codec/gguf_fp4.h"
#include "codec/lobcq_encode.h"
#include "neap/error.h"
#include "quantize/block_scaled.h"
#include "solve/table_layer.h"

namespace neap {
namespace {

GroupLayout group_layout(const GgufLayout& layout) {
  const std::int64_t sub = sub_group(layout);
  return {.bits = code_bits(layout), .group = sub > 0 ? sub : static_cast<std::int64_t>(block_elements(layout.type)),
          .symmetric = false, .scale_type = DType::f16};
}

GridForm form_of(const GgufLayout& layout) {
  if (sub_group(layout) > 0) return has_minima(layout) ? GridForm::super_minimum : GridForm::super_signed;
  return has_minima(layout) ? GridForm::half_minimum : GridForm::signed_half;
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

void put_scales(const Grid& grid, GgufTensor& tensor) {
  const float middle = static_cast<float>(1 << (grid.layout.bits - 1));
  for (std::size_t i = 0; i < grid.scales.rows() * grid.scales.cols(); ++i) {
    const float scale = grid.scales.data()[i], zero = grid.zeros.data()[i];
    const bool minima = grid.form == GridForm::half_minimum;
    const bool turned = !minima && zero != middle && grid.layout.bits < 8;
    tensor.scales.push_back(turned ? -scale : scale);
    if (minima) tensor.minima.push_back(half_minimum(-zero * scale));
  }
}

template <class T>
std::vector<T> values_of(const Matrix<T>& matrix) {
  return {matrix.data(), matrix.data() + matrix.rows() * matrix.cols()};
}

GgufTensor to_gguf(const GgufLayout& layout, const Grid& grid, std::vector<std::uint8_t> codes) {
  if (!has_minima(layout)) turn_codes(grid, codes);
  const SuperBlocks& super = grid.super_blocks;
  GgufTensor tensor{.layout = layout,
                    .rows = static_cast<std::int64_t>(grid.scales.rows()),
                    .cols = static_cast<std::int64_t>(grid.cols),
                    .codes = std::move(codes),
                    .scales = values_of(super.scales),
                    .minima = values_of(super.minima),
                    .sub_scales = values_of(super.sub_scales),
                    .sub_minima = values_of(super.sub_minima)};
  if (!grid.two_levels()) put_scales(grid, tensor);
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
                    .sub_scales = {},
                    .sub_minima = {}};
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

std::optional<Fp4Layout> float_layout(const GgufLayout& layout) {
  if (layout.type == DType::mxfp4) return Fp4Layout{BlockScaled::mxfp4};
  if (layout.type == DType::nvfp4) return Fp4Layout{BlockScaled::nvfp4};
  return {};
}

float global_scale_for(const Fp4Layout& layout, MatrixView<const float> weight) {
  return layout.format == BlockScaled::nvfp4 ? gguf_global_scale(largest_magnitude(weight)) : 1;
}

}  // namespace

GgufSolution solve_gguf(const LayerSystem& system, MatrixView<const float> weight, const GgufLayout& layout,
                        const SolveOptions& options, std::uint64_t key) {
  if (const auto floats = float_layout(layout)) {
    Fp4Solution solution = solve_fp4(system, weight, *floats, global_scale_for(*floats, weight), options);
    return {std::move(solution.tensor), std::move(solution.report)};
  }
  if (layout.type == DType::iq4_nl) {
    const TableLayout tables = iq4_nl_tables();
    TableSolution solution = solve_table_layer(system, weight, tables, options);
    return {to_iq4_nl(tables, solution.tensor), std::move(solution.report)};
  }
  GridSolution solution = solve_layer_in_form(system, weight, group_layout(layout), form_of(layout), options, key);
  return {to_gguf(layout, solution.grid, std::move(solution.codes)), std::move(solution.report)};
}

QuantizedWeight round_to_gguf(MatrixView<const float> weight, const GgufLayout& layout, std::span<const float> importance) {
  require_finite(weight);
  if (const auto floats = float_layout(layout)) return search_fp4(weight, *floats, global_scale_for(*floats, weight), importance);
  if (layout.type == DType::iq4_nl) return round_to_iq4_nl(weight, importance);
  const Grid grid = make_grid(weight, group_layout(layout), GridSearch::weighted, importance, form_of(layout));
  return to_gguf(layout, grid, nearest_codes(weight, grid));
}

}  // namespace neap
