#include "quantize/lobcq.h"

#include "codec/lobcq_encode.h"

namespace neap {
namespace {

TableLayout table_layout(const CodebookSet& set, float tensor_scale) {
  TableLayout layout{.array = static_cast<std::size_t>(set.layout.block_array),
                     .block = static_cast<std::size_t>(set.layout.block),
                     .tables = {},
                     .scales = {},
                     .mirrored = true};
  for (const Codebook& book : set.weights) {
    Table& table = layout.tables.emplace_back();
    for (std::size_t i = 0; i < book.size(); ++i) table[i] = book[i];
  }
  // In order: a scale's place in the list, counted from 1, is its bit pattern.
  for (E4m3 bits = 1; bits <= kE4m3Largest; ++bits)
    layout.scales.push_back(tensor_scale * e4m3_to_float(bits));
  return layout;
}

E4m3 scale_bits(std::int32_t scale) {
  return scale >= 0 ? static_cast<E4m3>(scale)
                    : static_cast<E4m3>(kE4m3Sign | static_cast<E4m3>(-scale));
}

template <class T>
std::vector<T> values_of(const Matrix<T>& matrix) {
  return {matrix.data(), matrix.data() + matrix.rows() * matrix.cols()};
}

LobcqTensor to_lobcq(const TableTensor& tables, const LobcqLayout& layout, float tensor_scale) {
  LobcqTensor tensor{.layout = layout,
                     .rows = static_cast<std::int64_t>(tables.codes.rows()),
                     .cols = static_cast<std::int64_t>(tables.codes.cols()),
                     .codes = values_of(tables.codes),
                     .selectors = values_of(tables.selectors),
                     .scales = {},
                     .tensor_scale = tensor_scale};
  for (const std::int32_t scale : values_of(tables.scales))
    tensor.scales.push_back(scale_bits(scale));
  return tensor;
}

}  // namespace

LobcqTensor round_to_lobcq(MatrixView<const float> weight, const CodebookSet& set, ScaleChoice scales) {
  const float tensor_scale = tensor_scale_for(largest_magnitude(weight));
  return LobcqEncoder(set.layout, set.weights).encode(weight, tensor_scale, scales);
}

LobcqSolution solve_lobcq(const LayerSystem& system, MatrixView<const float> weight,
                          const CodebookSet& set, const SolveOptions& options) {
  const float tensor_scale = tensor_scale_for(largest_magnitude(weight));
  TableSolution solution =
      solve_table_layer(system, weight, table_layout(set, tensor_scale), options);
  return {to_lobcq(solution.tensor, set.layout, tensor_scale), solution.report};
}

}  // namespace neap
