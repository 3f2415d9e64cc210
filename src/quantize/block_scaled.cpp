#include "quantize/block_scaled.h"

#include <algorithm>

#include "codec/lobcq_encode.h"
#include "quantize/naming.h"

namespace neap {
namespace {

// E2M1's numbers in ascending order; 0 stands twice, for -0.
constexpr int kNegatives = 8;

E2m1 bits_at(std::size_t place) {
  const int steps = static_cast<int>(place) - kNegatives;  // from +0
  if (steps >= 0) return static_cast<E2m1>(steps);
  return steps == -1 ? E2m1{0} : static_cast<E2m1>(kE2m1Sign | (-1 - steps));
}

// The bit pattern of the first scale in the list, of which the others are the next ones: 0 is no scale
// that a value can be divided by, and MXFP4's 2^-127 has no exact inverse in fp32.
constexpr std::uint8_t kFirstScale = 1;

TableLayout table_layout(const Fp4Layout& layout, float global_scale) {
  TableLayout tables{.array = static_cast<std::size_t>(layout.group()), .block = 1, .tables = {}, .scales = {}};
  Table& table = tables.tables.emplace_back();
  for (std::size_t i = 0; i < kTableEntries; ++i) table[i] = e2m1_to_float(bits_at(i));
  for (unsigned bits = kFirstScale; bits < 256 && usable_scale(layout, static_cast<std::uint8_t>(bits)); ++bits)
    tables.scales.push_back(fp4_scale(layout, static_cast<std::uint8_t>(bits), global_scale));
  return tables;
}

Fp4Tensor to_fp4(const TableTensor& tables, const Fp4Layout& layout, float global_scale) {
  Fp4Tensor tensor{.layout = layout,
                   .rows = static_cast<std::int64_t>(tables.codes.rows()),
                   .cols = static_cast<std::int64_t>(tables.codes.cols()),
                   .codes = {},
                   .scales = {},
                   .global_scale = global_scale};
  const std::size_t values = tables.codes.rows() * tables.codes.cols();
  const std::size_t groups = tables.scales.rows() * tables.scales.cols();
  for (std::size_t i = 0; i < groups; ++i) {
    const std::int32_t scale = tables.scales.data()[i];
    tensor.scales.push_back(scale == 0 ? fp4_scale_of_maximum(layout, 0, global_scale)
                                       : static_cast<std::uint8_t>(scale - 1 + kFirstScale));
  }
  for (std::size_t i = 0; i < values; ++i) {
    const bool zeros = tables.scales.data()[i / static_cast<std::size_t>(layout.group())] == 0;
    tensor.codes.push_back(zeros ? E2m1{0} : bits_at(tables.codes.data()[i]));
  }
  return tensor;
}

}  // namespace

float shared_global_scale(const Plan& plan, std::int64_t layer, Stage stage,
                          const std::function<Matrix<float>(Role)>& weight_of) {
  float largest = 0;
  bool any = false;
  for (const Role role : roles_of(stage)) {
    const std::string module = module_name(layer, role);
    const WeightLayout* layout = plan.find(module);
    const auto* fp4 = layout ? std::get_if<Fp4Layout>(layout) : nullptr;
    if (!fp4 || fp4->format != BlockScaled::nvfp4) continue;
    any = true;
    naming(module, [&] { largest = std::max(largest, largest_magnitude(weight_of(role))); });
  }
  return any ? global_scale_of_maximum(largest) : 1;
}

Fp4Solution solve_fp4(const LayerSystem& system, MatrixView<const float> weight, const Fp4Layout& layout,
                      float global_scale, const SolveOptions& options) {
  TableSolution solution = solve_table_layer(system, weight, table_layout(layout, global_scale), options);
  return {to_fp4(solution.tensor, layout, global_scale), solution.report};
}

Fp4Tensor search_fp4(MatrixView<const float> weight, const Fp4Layout& layout, float global_scale, std::span<const float> importance) {
  const TableLayout tables = table_layout(layout, global_scale);
  return to_fp4(round_to_tables(weight, tables, search_scales(weight, tables, importance), {}), layout, global_scale);
}

}  // namespace neap
