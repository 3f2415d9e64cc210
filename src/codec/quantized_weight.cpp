#include "codec/quantized_weight.h"

namespace neap {
namespace {

std::string words(const GroupLayout& layout) {
  const std::string group = layout.group == 0 ? "whole rows" : "groups of " + std::to_string(layout.group);
  return std::to_string(layout.bits) + " bits, " + group + (layout.symmetric ? ", symmetric" : ", asymmetric");
}

std::string words(const LobcqLayout& layout) {
  return "LO-BCQ: " + std::to_string(layout.codebooks) + " codebooks, blocks of " + std::to_string(layout.block) + ", arrays of " +
         std::to_string(layout.block_array);
}

std::string words(const Fp4Layout& layout) {
  return name_of(layout.format) + ": 4-bit floats, groups of " + std::to_string(layout.group());
}

std::string words(const GgufLayout& layout) { return "GGUF " + std::string(name_of(layout.type)); }

}  // namespace

std::string words_for(const WeightLayout& layout) {
  return std::visit([](const auto& its) { return words(its); }, layout);
}

std::int64_t rows_of(const QuantizedWeight& weight) {
  return std::visit([](const auto& tensor) { return tensor.rows; }, weight);
}

std::int64_t cols_of(const QuantizedWeight& weight) {
  return std::visit([](const auto& tensor) { return tensor.cols; }, weight);
}

WeightLayout layout_of(const QuantizedWeight& weight) {
  return std::visit([](const auto& tensor) { return WeightLayout(tensor.layout); }, weight);
}

double bits_per_weight(const WeightLayout& layout, std::int64_t rows, std::int64_t cols) {
  return std::visit([&](const auto& its) { return bits_per_weight(its, rows, cols); }, layout);
}

void dequantize(const QuantizedWeight& weight, const Codebooks& codebooks, std::int64_t first,
                std::int64_t count, MatrixView<float> out) {
  if (const auto* lobcq = std::get_if<LobcqTensor>(&weight)) {
    dequantize(*lobcq, codebooks, first, count, out);
  } else if (const auto* floats = std::get_if<Fp4Tensor>(&weight)) {
    dequantize(*floats, first, count, out);
  } else if (const auto* blocks = std::get_if<GgufTensor>(&weight)) {
    dequantize(*blocks, first, count, out);
  } else {
    dequantize(std::get<QuantizedTensor>(weight), first, count, out);
  }
}

}  // namespace neap
