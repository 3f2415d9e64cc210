#include "codec/lobcq_encode.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>

#include "base/parallel.h"
#include "codec/lobcq_array.h"
#include "neap/error.h"

namespace neap {
namespace {

// Search looks at this many E4M3 numbers below and above the one of the maximum. Clipping hardly
// pays, room above the maximum does: it lets an array use narrower codebooks. Further ones win
// nothing (docs/algorithms/lobcq.md).
constexpr int kBelow = 1, kAbove = 5;

[[noreturn]] void refuse_non_finite(MatrixView<const float> values, std::size_t row) {
  std::size_t c = 0;
  while (std::isfinite(values(row, c))) ++c;
  throw Error(ErrorCode::data,
              "NaN or infinity in row " + std::to_string(row) + ", column " + std::to_string(c));
}

std::size_t rows_per_tile(std::size_t cols) { return std::max<std::size_t>(1, 32768 / cols); }

// Calls body(row) for every row, in tiles.
template <class Body>
void for_each_row(std::size_t rows, std::size_t cols, const Body& body) {
  const std::size_t tile = rows_per_tile(cols);
  parallel_for((rows + tile - 1) / tile, [&](std::size_t t) {
    for (std::size_t r = t * tile; r < std::min(rows, (t + 1) * tile); ++r) body(r);
  });
}

// largest: the value of largest magnitude, not 0.
E4m3 scale_of_largest(float largest, float per_entry) {
  const auto magnitude = std::max<E4m3>(1, float_to_e4m3(std::abs(largest) * per_entry));
  return largest < 0 ? static_cast<E4m3>(magnitude | kE4m3Sign) : magnitude;
}

float per_entry_of(float tensor_scale) {
  return 1.0f / (static_cast<float>(kLargestEntry) * tensor_scale);
}

// The scale of one array, and what depends on it.
class ArrayScaler {
 public:
  ArrayScaler(const LobcqTables& tables, const LobcqLevel& level, float tensor_scale,
              ScaleChoice choice)
      : tables_(tables),
        level_(level),
        tensor_scale_(tensor_scale),
        per_entry_(per_entry_of(tensor_scale)),
        choice_(choice) {}

  // 0 for zeros, empty for a value that is not finite.
  std::optional<E4m3> choose(const float* x, int count) const {
    const float largest = level_.largest(x, count);
    if (!std::isfinite(largest)) return std::nullopt;
    if (largest == 0) return E4m3{0};
    const E4m3 scale = scale_of_largest(largest, per_entry_);
    return choice_ == ScaleChoice::search ? best_near(x, count, scale) : scale;
  }

  // d, and 64 / d.
  float unit(E4m3 scale) const { return tensor_scale_ * e4m3_to_float(scale); }
  float ratio(E4m3 scale) const { return 64.0f / unit(scale); }

 private:
  // Squared error in fp64 from integers: the same at every level. Of equal ones the first: smaller
  // magnitudes before larger ones, positive before negative.
  E4m3 best_near(const float* x, int count, E4m3 centre) const {
    const int magnitude_of_centre = centre & ~kE4m3Sign;
    const int low = std::max(1, magnitude_of_centre - kBelow);
    const int high = std::min<int>(kE4m3Largest, magnitude_of_centre + kAbove);
    double least = 0;
    E4m3 best = 0;
    for (int magnitude = low; magnitude <= high; ++magnitude) {
      const auto scale = static_cast<E4m3>(magnitude);
      const ArrayErrors errors = level_.errors(tables_, x, count, ratio(scale));
      const double step = unit(scale);
      const double plain = static_cast<double>(errors.plain) * (step * step);
      const double mirrored = static_cast<double>(errors.mirrored) * (step * step);
      if (best == 0 || plain < least) best = scale, least = plain;
      if (mirrored < least) best = static_cast<E4m3>(scale | kE4m3Sign), least = mirrored;
    }
    return best;
  }

  const LobcqTables& tables_;
  const LobcqLevel& level_;
  float tensor_scale_, per_entry_;
  ScaleChoice choice_;
};

float largest_of(const LobcqLevel& level, const float* x, std::size_t count) {
  float found = 0;
  for (std::size_t first = 0; first < count; first += kLongestArray) {
    const auto part = static_cast<int>(std::min<std::size_t>(kLongestArray, count - first));
    const float largest = level.largest(x + first, part);
    if (!(std::abs(largest) <= std::abs(found))) found = largest;
    if (!std::isfinite(found)) break;
  }
  return found;
}

// Calls body(row, first column, values in it, its scale) for every array, and refuses what is not
// finite.
template <class Body>
void for_each_array(MatrixView<const float> values, std::size_t width, const ArrayScaler& scaler,
                    const Body& body) {
  std::vector<std::uint8_t> failed(values.rows);
  for_each_row(values.rows, values.cols, [&](std::size_t r) {
    for (std::size_t first = 0; first < values.cols; first += width) {
      const std::size_t count = std::min(width, values.cols - first);
      const auto scale = scaler.choose(values.row(r) + first, static_cast<int>(count));
      scale ? body(r, first, static_cast<int>(count), *scale) : void(failed[r] = 1);
    }
  });
  const auto bad = std::find(failed.begin(), failed.end(), std::uint8_t{1});
  if (bad != failed.end())
    refuse_non_finite(values, static_cast<std::size_t>(bad - failed.begin()));
}

}  // namespace

ScaleChoice scale_choice_from_name(const std::string& name) {
  if (name == "maximum") return ScaleChoice::maximum;
  if (name == "search") return ScaleChoice::search;
  throw Error(ErrorCode::argument, "unknown choice of scales", {.expected = "search or maximum", .found = name});
}
std::string name_of(ScaleChoice choice) { return choice == ScaleChoice::search ? "search" : "maximum"; }

float tensor_scale_for(float max_abs, int headroom) {
  NEAP_CHECK(max_abs >= 0 && std::isfinite(max_abs) && headroom >= 0);
  if (max_abs == 0) return 1;
  int exponent = 0;
  const double ratio =
      static_cast<double>(max_abs) / (static_cast<double>(kE4m3Max) * kLargestEntry);
  if (std::frexp(ratio, &exponent) == 0.5) --exponent;  // a power of two is its own ceiling
  return std::clamp(static_cast<float>(std::ldexp(1.0, exponent + headroom)), kSmallestTensorScale,
                    kLargestTensorScale);
}

float largest_magnitude(MatrixView<const float> values) {
  const LobcqLevel& level = lobcq_level(default_isa());
  std::vector<float> of_row(values.rows);
  for_each_row(values.rows, values.cols, [&](std::size_t r) {
    of_row[r] = std::abs(largest_of(level, values.row(r), values.cols));
  });
  for (std::size_t r = 0; r < values.rows; ++r) {
    if (!std::isfinite(of_row[r])) refuse_non_finite(values, r);
  }
  return values.empty() ? 0 : *std::max_element(of_row.begin(), of_row.end());
}

E4m3 scale_of_maximum(std::span<const float> x, float tensor_scale) {
  const float largest = largest_of(lobcq_level(default_isa()), x.data(), x.size());
  return largest == 0 ? E4m3{0} : scale_of_largest(largest, per_entry_of(tensor_scale));
}

void to_fixed_point(std::span<const float> x, float unit, std::int16_t* points) {
  fixed_points(x.data(), static_cast<int>(x.size()), 64.0f / unit, points);
}

LobcqEncoder::LobcqEncoder(const LobcqLayout& layout, const Codebooks& codebooks, Isa isa)
    : layout_(layout), tables_(make_tables(layout, codebooks)), level_(lobcq_level(isa)) {
  check_codebooks(layout, codebooks);
}

E4m3 LobcqEncoder::choose_scale(std::span<const float> x, float tensor_scale,
                                ScaleChoice choice) const {
  NEAP_CHECK(!x.empty() && x.size() <= static_cast<std::size_t>(layout_.block_array));
  const auto scale = ArrayScaler(tables_, level_, tensor_scale, choice)
                         .choose(x.data(), static_cast<int>(x.size()));
  NEAP_CHECK(scale.has_value());
  return *scale;
}

LobcqTensor LobcqEncoder::encode(MatrixView<const float> values, float tensor_scale,
                                 ScaleChoice choice) const {
  NEAP_CHECK(!values.empty());
  NEAP_CHECK(tensor_scale >= kSmallestTensorScale && tensor_scale <= kLargestTensorScale);
  const std::size_t rows = values.rows, cols = values.cols;
  const auto columns = static_cast<std::int64_t>(cols);
  const auto arrays = static_cast<std::size_t>(layout_.arrays(columns));
  const auto blocks = static_cast<std::size_t>(layout_.blocks(columns));
  LobcqTensor out{.layout = layout_,
                  .rows = static_cast<std::int64_t>(rows),
                  .cols = columns,
                  .codes = std::vector<std::uint8_t>(rows * cols),
                  .selectors = std::vector<std::uint8_t>(rows * blocks),
                  .scales = std::vector<E4m3>(rows * arrays),
                  .tensor_scale = tensor_scale};
  const ArrayScaler scaler(tables_, level_, tensor_scale, choice);
  const auto width = static_cast<std::size_t>(layout_.block_array),
             block = static_cast<std::size_t>(layout_.block);
  for_each_array(values, width, scaler,
                 [&](std::size_t r, std::size_t first, int count, E4m3 scale) {
                   if (scale == 0) return;
                   std::uint8_t* codes = out.codes.data() + r * cols + first;
                   std::uint8_t* selectors = out.selectors.data() + r * blocks + first / block;
                   const float* x = values.row(r) + first;
                   if (level_.encode(tables_, x, count, scaler.ratio(scale), codes, selectors)) {
                     out.scales[r * arrays + first / width] = scale;
                   } else {
                     std::fill(codes, codes + count, std::uint8_t{0});
                     std::fill(selectors, selectors + (count + layout_.block - 1) / layout_.block,
                               std::uint8_t{0});
                   }
                 });
  return out;
}

void LobcqEncoder::round(MatrixView<const float> values, float tensor_scale, ScaleChoice choice,
                         MatrixView<float> out) const {
  NEAP_CHECK(out.rows == values.rows && out.cols == values.cols);
  NEAP_CHECK(tensor_scale >= kSmallestTensorScale && tensor_scale <= kLargestTensorScale);
  const ArrayScaler scaler(tables_, level_, tensor_scale, choice);
  const auto width = static_cast<std::size_t>(layout_.block_array);
  for_each_array(
      values, width, scaler, [&](std::size_t r, std::size_t first, int count, E4m3 scale) {
        std::array<std::int8_t, kLongestArray> entries;
        float* to = out.row(r) + first;
        const float* x = values.row(r) + first;
        if (scale == 0 || !level_.entries(tables_, x, count, scaler.ratio(scale), entries.data())) {
          std::fill(to, to + count, 0.0f);
          return;
        }
        const float unit = scaler.unit(scale);
        for (int c = 0; c < count; ++c)
          to[c] = static_cast<float>(entries[static_cast<std::size_t>(c)]) * unit;
      });
}

// All scales of a row, then all entries: one array's have to wait for its scale, but not for
// another's.
void LobcqEncoder::entries(MatrixView<const float> values, float tensor_scale, ScaleChoice choice,
                           MatrixView<std::int8_t> entries, MatrixView<float> scales) const {
  NEAP_CHECK(entries.rows == values.rows && entries.cols == values.cols);
  NEAP_CHECK(tensor_scale >= kSmallestTensorScale && tensor_scale <= kLargestTensorScale);
  const ArrayScaler scaler(tables_, level_, tensor_scale, choice);
  const auto width = static_cast<std::size_t>(layout_.block_array);
  const std::size_t cols = values.cols, arrays = (cols + width - 1) / width;
  const auto count_of = [&](std::size_t a) {
    return static_cast<int>(std::min(width, cols - a * width));
  };
  for (std::size_t r = 0; r < values.rows; ++r) {
    const float* x = values.row(r);
    for (std::size_t a = 0; a < arrays; ++a) {
      const auto scale = scaler.choose(x + a * width, count_of(a));
      if (!scale) refuse_non_finite(values, r);
      scales(r, a) = e4m3_to_float(*scale);
    }
    for (std::size_t a = 0; a < arrays; ++a) {
      std::int8_t* to = entries.row(r) + a * width;
      float& scale = scales(r, a);
      if (scale != 0 &&
          level_.entries(tables_, x + a * width, count_of(a), 64.0f / (tensor_scale * scale), to))
        continue;
      std::fill(to, to + count_of(a), std::int8_t{0});
      scale = 0;
    }
  }
}

}  // namespace neap
