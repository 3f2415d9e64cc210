#include "codec/regrid.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "codec/group_int.h"

namespace neap {
namespace {

constexpr int kMostSteps = 1 << 16;  // far beyond any grid, and exact in a float

// The integers of `count` values under `scale`'s magnitude; false if one is none.
bool steps_of(const float* values, std::size_t count, float scale, int* steps) {
  for (std::size_t i = 0; i < count; ++i) {
    const float step = scale == 0 ? 0 : values[i] / std::abs(scale);
    if (!(std::abs(step) < kMostSteps) || step != std::nearbyint(step)) return false;
    steps[i] = static_cast<int>(step);
    if (static_cast<float>(steps[i]) * std::abs(scale) != values[i]) return false;
  }
  return true;
}

struct Span {
  int low = 0, high = 0;  // 0 included
};

Span span_of(const std::vector<int>& steps) {
  const auto [low, high] = std::minmax_element(steps.begin(), steps.end());
  return {std::min(*low, 0), std::max(*high, 0)};
}

// The zero point that puts all codes into [0, 2^bits), the middle if it may be; negative: none.
int zero_for(const Span& span, int bits, bool symmetric) {
  const int middle = 1 << (bits - 1), highest = (1 << bits) - 1;
  if (span.low + middle >= 0 && span.high + middle <= highest) return middle;
  if (symmetric || span.high - span.low > highest) return -1;
  return std::clamp(middle, -span.low, highest - span.high);
}

// Calls set(row, group, first column, steps, scale) for all groups of `width`, stopping at false.
template <class Set>
bool for_groups(const Multiples& from, std::size_t width, Set&& set) {
  const std::size_t shared = static_cast<std::size_t>(from.group);
  std::atomic<bool> held = true;
  parallel_for(from.values.rows(), [&](std::size_t r) {
    std::vector<int> steps(width);
    for (std::size_t c = 0; held && c < from.values.cols(); c += width) {
      const float scale = from.scales(r, c / shared);
      if (!steps_of(from.values.row(r) + c, width, scale, steps.data()) || !set(r, c / width, c, steps, std::abs(scale))) held = false;
    }
  });
  return held;
}

// Of a _1 type: m + d n with n from 0, m a multiple of d that fp16 has. Moves `low` to where m is exact.
bool find_minimum(const Span& span, float scale, int highest, int& low) {
  for (low = span.low; low >= span.high - highest; --low) {
    if (exact_in(static_cast<float>(low) * scale, DType::f16)) return true;
  }
  return false;
}

}  // namespace

std::optional<QuantizedTensor> exact_groups(const Multiples& from, const GroupLayout& layout) {
  const std::size_t rows = from.values.rows(), cols = from.values.cols(), width = layout.group == 0 ? cols : static_cast<std::size_t>(layout.group);
  NEAP_CHECK(static_cast<std::int64_t>(width) == from.group && cols % width == 0);
  QuantizedTensor tensor{.layout = layout, .rows = static_cast<std::int64_t>(rows), .cols = static_cast<std::int64_t>(cols), .codes = {}, .scales = {}, .zeros = {}};
  const std::size_t groups = cols / width;
  tensor.codes.resize(rows * cols);
  tensor.scales.resize(rows * groups);
  tensor.zeros.resize(layout.symmetric ? 0 : rows * groups);
  const bool held = for_groups(from, width, [&](std::size_t r, std::size_t g, std::size_t c, const std::vector<int>& steps, float scale) {
    const int zero = zero_for(span_of(steps), layout.bits, layout.symmetric);
    if (zero < 0 || !exact_in(scale, layout.scale_type)) return false;
    for (std::size_t i = 0; i < width; ++i) tensor.codes[r * cols + c + i] = static_cast<std::uint8_t>(steps[i] + zero);
    tensor.scales[r * groups + g] = scale == 0 ? 1 : scale;
    if (!layout.symmetric) tensor.zeros[r * groups + g] = static_cast<std::uint8_t>(zero);
    return true;
  });
  return held ? std::optional(std::move(tensor)) : std::nullopt;
}

std::optional<GgufTensor> exact_blocks(const Multiples& from, DType type) {
  const GgufLayout layout{type};
  const std::size_t rows = from.values.rows(), cols = from.values.cols(), width = block_elements(type);
  if (from.group % static_cast<std::int64_t>(width) != 0) return {};
  GgufTensor tensor;
  tensor.layout = layout;
  tensor.rows = static_cast<std::int64_t>(rows);
  tensor.cols = static_cast<std::int64_t>(cols);
  const int bits = code_bits(layout), highest = (1 << bits) - 1, middle = 1 << (bits - 1);
  const std::size_t blocks = cols / width;
  tensor.codes.resize(rows * cols);
  tensor.scales.resize(rows * blocks);
  tensor.minima.resize(has_minima(layout) ? rows * blocks : 0);
  const bool held = for_groups(from, width, [&](std::size_t r, std::size_t b, std::size_t c, const std::vector<int>& steps, float scale) {
    if (!exact_in(scale, DType::f16)) return false;
    const Span span = span_of(steps);
    int low = -middle;
    if (has_minima(layout)) {
      if (!find_minimum(span, scale, highest, low)) return false;
      tensor.minima[r * blocks + b] = static_cast<float>(low) * scale;
    } else if (span.low < -middle || span.high >= middle) {
      return false;
    }
    for (std::size_t i = 0; i < width; ++i) tensor.codes[r * cols + c + i] = static_cast<std::uint8_t>(steps[i] - low);
    tensor.scales[r * blocks + b] = scale;
    return true;
  });
  return held ? std::optional(std::move(tensor)) : std::nullopt;
}

const std::vector<DType>& exact_block_types() {
  static const std::vector<DType> kTypes = {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0};
  return kTypes;
}

}  // namespace neap
