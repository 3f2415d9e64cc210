#include "codec/lobcq_encode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>

#include "base/parallel.h"
#include "codec/lobcq_array.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr int kLongestArray = 128;
// Search looks at this many E4M3 numbers below and above the one of the maximum. Further ones win
// nothing (docs/algorithms/lobcq.md).
constexpr int kBelow = 4, kAbove = 2;

// Bit patterns of magnitudes order as the magnitudes do; infinity and NaN are the largest.
std::uint32_t largest_bits(const float* x, std::size_t count) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  }
  return largest;
}

constexpr std::uint32_t kInfinity = 0x7f800000u;

[[noreturn]] void refuse_non_finite(MatrixView<const float> values, std::size_t row) {
  std::size_t c = 0;
  while (std::isfinite(values(row, c))) ++c;
  throw Error(ErrorCode::data, "NaN or infinity in row " + std::to_string(row) + ", column " +
                                   std::to_string(c));
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

E4m3 scale_of_largest(const float* x, std::size_t count, float max_abs, float per_entry) {
  const auto magnitude = std::max<E4m3>(1, float_to_e4m3(max_abs * per_entry));
  const float first = *std::find_if(x, x + count, [&](float v) { return std::abs(v) == max_abs; });
  return first < 0 ? static_cast<E4m3>(magnitude | kE4m3Sign) : magnitude;
}

float per_entry_of(float tensor_scale) { return 1.0f / (static_cast<float>(kLargestEntry) * tensor_scale); }

float ratio_of(float tensor_scale, E4m3 scale) { return 64.0f / (tensor_scale * e4m3_to_float(scale)); }

// One array of the row, decided: codes and selectors written, the scale returned.
class ArrayEncoder {
 public:
  ArrayEncoder(const LobcqTables& tables, float tensor_scale, ScaleChoice choice)
      : tables_(tables),
        tensor_scale_(tensor_scale),
        per_entry_(per_entry_of(tensor_scale)),
        choice_(choice) {}

  // codes: count of them; selectors: one per block. Empty for a value that is not finite.
  std::optional<E4m3> encode(const float* x, int count, std::uint8_t* codes, std::uint8_t* selectors) const {
    const std::uint32_t bits = largest_bits(x, static_cast<std::size_t>(count));
    if (bits >= kInfinity) return std::nullopt;
    if (bits != 0) {
      const E4m3 scale = choose(x, count, std::bit_cast<float>(bits));
      const float ratio = ratio_of(tensor_scale_, scale);
      if (encode_array(tables_, x, count, ratio, codes, selectors)) return scale;
    }
    std::fill(codes, codes + count, std::uint8_t{0});
    std::fill(selectors, selectors + (count + tables_.block - 1) / tables_.block, std::uint8_t{0});
    return E4m3{0};
  }

  // max_abs: of x, not 0.
  E4m3 choose(const float* x, int count, float max_abs) const {
    const E4m3 scale = scale_of_largest(x, static_cast<std::size_t>(count), max_abs, per_entry_);
    return choice_ == ScaleChoice::search ? best_near(x, count, scale) : scale;
  }

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
      const ArrayErrors errors = array_errors(tables_, x, count, ratio_of(tensor_scale_, scale));
      const double unit = tensor_scale_ * e4m3_to_float(scale);
      const double plain = static_cast<double>(errors.plain) * (unit * unit);
      const double mirrored = static_cast<double>(errors.mirrored) * (unit * unit);
      if (best == 0 || plain < least) best = scale, least = plain;
      if (mirrored < least) best = static_cast<E4m3>(scale | kE4m3Sign), least = mirrored;
    }
    return best;
  }

  const LobcqTables& tables_;
  float tensor_scale_, per_entry_;
  ScaleChoice choice_;
};

}  // namespace

float tensor_scale_for(float max_abs, int headroom) {
  NEAP_CHECK(max_abs >= 0 && std::isfinite(max_abs) && headroom >= 0);
  if (max_abs == 0) return 1;
  int exponent = 0;
  const double ratio = static_cast<double>(max_abs) / (static_cast<double>(kE4m3Max) * kLargestEntry);
  if (std::frexp(ratio, &exponent) == 0.5) --exponent;  // a power of two is its own ceiling
  return std::clamp(static_cast<float>(std::ldexp(1.0, exponent + headroom)), kSmallestTensorScale,
                    kLargestTensorScale);
}

float largest_magnitude(MatrixView<const float> values) {
  std::vector<std::uint32_t> of_row(values.rows);
  for_each_row(values.rows, values.cols, [&](std::size_t r) {
    of_row[r] = largest_bits(values.row(r), values.cols);
  });
  std::uint32_t largest = 0;
  for (std::size_t r = 0; r < values.rows; ++r) {
    if (of_row[r] >= kInfinity) refuse_non_finite(values, r);
    largest = std::max(largest, of_row[r]);
  }
  return std::bit_cast<float>(largest);
}

E4m3 scale_of_maximum(std::span<const float> x, float tensor_scale) {
  const auto largest = std::bit_cast<float>(largest_bits(x.data(), x.size()));
  return largest == 0 ? E4m3{0} : scale_of_largest(x.data(), x.size(), largest, per_entry_of(tensor_scale));
}

void to_fixed_point(std::span<const float> x, float unit, std::int16_t* points) {
  fixed_points(x.data(), static_cast<int>(x.size()), 64.0f / unit, points);
}

E4m3 LobcqEncoder::choose_scale(std::span<const float> x, float tensor_scale, ScaleChoice choice) const {
  NEAP_CHECK(x.size() <= static_cast<std::size_t>(layout_.block_array));
  const auto largest = std::bit_cast<float>(largest_bits(x.data(), x.size()));
  if (largest == 0) return 0;
  return ArrayEncoder(tables_, tensor_scale, choice).choose(x.data(), static_cast<int>(x.size()), largest);
}

LobcqEncoder::LobcqEncoder(const LobcqLayout& layout, const Codebooks& codebooks)
    : layout_(layout), codebooks_(codebooks) {
  check_codebooks(layout, codebooks);
  tables_ = make_tables(layout, codebooks);
}

LobcqTensor LobcqEncoder::encode(MatrixView<const float> values, float tensor_scale,
                                 ScaleChoice choice) const {
  NEAP_CHECK(!values.empty());
  NEAP_CHECK(tensor_scale >= kSmallestTensorScale && tensor_scale <= kLargestTensorScale);
  const std::size_t rows = values.rows, cols = values.cols;
  const auto columns = static_cast<std::int64_t>(cols);
  const auto arrays = static_cast<std::size_t>(layout_.arrays(columns));
  const auto blocks = static_cast<std::size_t>(layout_.blocks(columns));
  LobcqTensor out{.layout = layout_, .rows = static_cast<std::int64_t>(rows), .cols = columns,
                  .codes = std::vector<std::uint8_t>(rows * cols),
                  .selectors = std::vector<std::uint8_t>(rows * blocks),
                  .scales = std::vector<E4m3>(rows * arrays), .tensor_scale = tensor_scale};
  const ArrayEncoder encoder(tables_, tensor_scale, choice);
  const auto width = static_cast<std::size_t>(layout_.block_array);
  const auto block = static_cast<std::size_t>(layout_.block);
  std::vector<std::uint8_t> failed(rows);
  for_each_row(rows, cols, [&](std::size_t r) {
    for (std::size_t a = 0; a < arrays; ++a) {
      const std::size_t first = a * width, count = std::min(width, cols - first);
      const auto scale = encoder.encode(values.row(r) + first, static_cast<int>(count),
                                        out.codes.data() + r * cols + first,
                                        out.selectors.data() + r * blocks + first / block);
      if (!scale) failed[r] = 1;
      out.scales[r * arrays + a] = scale.value_or(0);
    }
  });
  const auto bad = std::find(failed.begin(), failed.end(), std::uint8_t{1});
  if (bad != failed.end()) refuse_non_finite(values, static_cast<std::size_t>(bad - failed.begin()));
  return out;
}

void LobcqEncoder::round(MatrixView<const float> values, float tensor_scale, ScaleChoice choice,
                         MatrixView<float> out) const {
  NEAP_CHECK(out.rows == values.rows && out.cols == values.cols);
  NEAP_CHECK(tensor_scale >= kSmallestTensorScale && tensor_scale <= kLargestTensorScale);
  const ArrayEncoder encoder(tables_, tensor_scale, choice);
  const auto width = static_cast<std::size_t>(layout_.block_array);
  const auto block = static_cast<std::size_t>(layout_.block);
  for_each_row(values.rows, values.cols, [&](std::size_t r) {
    std::array<std::uint8_t, kLongestArray> codes, selectors;
    for (std::size_t first = 0; first < values.cols; first += width) {
      const std::size_t count = std::min(width, values.cols - first);
      const auto scale = encoder.encode(values.row(r) + first, static_cast<int>(count), codes.data(),
                                        selectors.data());
      if (!scale) refuse_non_finite(values, r);
      const float unit = tensor_scale * e4m3_to_float(*scale);
      float* to = out.row(r) + first;
      for (std::size_t c = 0; c < count; ++c) {
        to[c] = *scale == 0 ? 0.0f : static_cast<float>(codebooks_[selectors[c / block]][codes[c]]) * unit;
      }
    }
  });
}

}  // namespace neap
