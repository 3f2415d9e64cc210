#include "codec/lobcq.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "base/parallel.h"
#include "codec/lobcq_pack.h"
#include "neap/error.h"

namespace neap {
namespace {

bool one_of(int value, std::initializer_list<int> allowed) {
  return std::find(allowed.begin(), allowed.end(), value) != allowed.end();
}

bool below(const std::vector<std::uint8_t>& values, int limit) {
  return std::all_of(values.begin(), values.end(), [&](std::uint8_t v) { return v < limit; });
}

bool all_zero(const std::uint8_t* first, const std::uint8_t* last) {
  return std::all_of(first, last, [](std::uint8_t v) { return v == 0; });
}

// What array `a` of a row covers.
struct Extent {
  std::int64_t first_col, last_col, first_block, last_block;
};

Extent extent_of(const LobcqLayout& layout, std::int64_t cols, std::int64_t a) {
  const std::int64_t first = a * layout.block_array;
  const std::int64_t last = std::min<std::int64_t>(first + layout.block_array, cols);
  return {first, last, first / layout.block, (last + layout.block - 1) / layout.block};
}

// The entries of a row, 0 in arrays of zeros.
std::vector<int> entries_of_row(const LobcqTensor& tensor, const Codebooks& codebooks,
                                std::int64_t row) {
  std::vector<int> entries(static_cast<std::size_t>(tensor.cols));
  const std::uint8_t* codes = tensor.codes.data() + row * tensor.cols;
  const std::uint8_t* selectors = tensor.selectors.data() + row * tensor.layout.blocks(tensor.cols);
  for (std::int64_t c = 0; c < tensor.cols; ++c) {
    if (tensor.scale(row, c / tensor.layout.block_array) == 0) continue;
    entries[static_cast<std::size_t>(c)] = codebooks[selectors[c / tensor.layout.block]][codes[c]];
  }
  return entries;
}

}  // namespace

bool LobcqLayout::valid() const {
  return one_of(block_array, {16, 32, 64, 128}) && one_of(block, {2, 4, 8}) &&
         one_of(codebooks, {2, 4, 8, 16});
}

void require_valid(const LobcqLayout& layout) {
  if (layout.valid()) return;
  throw Error(
      ErrorCode::argument, "no such block format",
      {.expected =
           "block arrays of 16, 32, 64 or 128, blocks of 2, 4 or 8, and 2, 4, 8 or 16 codebooks",
       .found = std::to_string(layout.block_array) + ", " + std::to_string(layout.block) + " and " +
                std::to_string(layout.codebooks)});
}

int LobcqLayout::selector_bits() const {
  return std::bit_width(static_cast<unsigned>(codebooks)) - 1;
}

std::int64_t LobcqLayout::arrays(std::int64_t cols) const {
  return (cols + block_array - 1) / block_array;
}

std::int64_t LobcqLayout::blocks(std::int64_t cols) const { return (cols + block - 1) / block; }

void check_codebooks(const LobcqLayout& layout, const Codebooks& codebooks) {
  NEAP_CHECK(layout.valid() && codebooks.size() == static_cast<std::size_t>(layout.codebooks));
  for (const Codebook& book : codebooks) {
    NEAP_CHECK(std::is_sorted(book.begin(), book.end()));
    NEAP_CHECK(book.front() >= -kLargestEntry && book.back() <= kLargestEntry);
  }
}

void check_invariants(const LobcqTensor& tensor) {
  const LobcqLayout& layout = tensor.layout;
  NEAP_CHECK(layout.valid() && tensor.rows > 0 && tensor.cols > 0);
  const std::int64_t arrays = layout.arrays(tensor.cols), blocks = layout.blocks(tensor.cols);
  NEAP_CHECK(tensor.codes.size() == static_cast<std::size_t>(tensor.rows * tensor.cols));
  NEAP_CHECK(tensor.selectors.size() == static_cast<std::size_t>(tensor.rows * blocks));
  NEAP_CHECK(tensor.scales.size() == static_cast<std::size_t>(tensor.rows * arrays));
  NEAP_CHECK(tensor.tensor_scale >= kSmallestTensorScale &&
             tensor.tensor_scale <= kLargestTensorScale);
  NEAP_CHECK(below(tensor.codes, kCodebookEntries) && below(tensor.selectors, layout.codebooks));
  for (std::int64_t r = 0; r < tensor.rows; ++r) {
    for (std::int64_t a = 0; a < arrays; ++a) {
      const E4m3 scale = tensor.scales[static_cast<std::size_t>(r * arrays + a)];
      NEAP_CHECK((scale & ~kE4m3Sign) != kE4m3NaN && scale != kE4m3Sign);
      if (scale != 0) continue;
      const Extent at = extent_of(layout, tensor.cols, a);
      const std::uint8_t* codes = tensor.codes.data() + r * tensor.cols;
      const std::uint8_t* selectors = tensor.selectors.data() + r * blocks;
      NEAP_CHECK(all_zero(codes + at.first_col, codes + at.last_col));
      NEAP_CHECK(all_zero(selectors + at.first_block, selectors + at.last_block));
    }
  }
}

void dequantize(const LobcqTensor& tensor, const Codebooks& codebooks, std::int64_t first,
                std::int64_t count, MatrixView<float> out) {
  NEAP_CHECK(first >= 0 && count >= 0 && first + count <= tensor.rows);
  NEAP_CHECK(out.rows == static_cast<std::size_t>(count) &&
             out.cols == static_cast<std::size_t>(tensor.cols));
  check_codebooks(tensor.layout, codebooks);
  const LobcqLayout& layout = tensor.layout;
  const std::int64_t arrays = layout.arrays(tensor.cols), blocks = layout.blocks(tensor.cols);
  const std::int64_t tile = std::max<std::int64_t>(1, 65536 / tensor.cols);
  parallel_for(static_cast<std::size_t>((count + tile - 1) / tile), [&](std::size_t t) {
    const std::int64_t begin = static_cast<std::int64_t>(t) * tile;
    for (std::int64_t r = begin; r < std::min(begin + tile, count); ++r) {
      const std::uint8_t* codes = tensor.codes.data() + (first + r) * tensor.cols;
      const std::uint8_t* selectors = tensor.selectors.data() + (first + r) * blocks;
      float* row = out.row(static_cast<std::size_t>(r));
      for (std::int64_t a = 0; a < arrays; ++a) {
        const Extent at = extent_of(layout, tensor.cols, a);
        const float scale = tensor.scale(first + r, a);
        if (scale == 0) std::fill(row + at.first_col, row + at.last_col, 0.0f);
        for (std::int64_t c = at.first_col; scale != 0 && c < at.last_col; ++c) {
          row[c] = static_cast<float>(codebooks[selectors[c / layout.block]][codes[c]]) * scale;
        }
      }
    }
  });
}

void multiply(const LobcqTensor& inputs, const Codebooks& input_codebooks,
              const LobcqTensor& weights, const Codebooks& weight_codebooks,
              MatrixView<float> out) {
  const std::int64_t array = inputs.layout.block_array, cols = inputs.cols;
  NEAP_CHECK(weights.layout.block_array == array && weights.cols == cols);
  NEAP_CHECK(out.rows == static_cast<std::size_t>(inputs.rows) &&
             out.cols == static_cast<std::size_t>(weights.rows));
  const std::int64_t arrays = inputs.layout.arrays(cols);
  const float tensor_scales = inputs.tensor_scale * weights.tensor_scale;
  for (std::int64_t t = 0; t < inputs.rows; ++t) {
    const std::vector<int> x = entries_of_row(inputs, input_codebooks, t);
    for (std::int64_t o = 0; o < weights.rows; ++o) {
      const std::vector<int> w = entries_of_row(weights, weight_codebooks, o);
      float sum = 0;
      for (std::int64_t a = 0; a < arrays; ++a) {
        int dot = 0;
        for (std::int64_t c = a * array; c < std::min((a + 1) * array, cols); ++c) {
          dot += x[static_cast<std::size_t>(c)] * w[static_cast<std::size_t>(c)];
        }
        const float scales =
            e4m3_to_float(inputs.scales[static_cast<std::size_t>(t * arrays + a)]) *
            e4m3_to_float(weights.scales[static_cast<std::size_t>(o * arrays + a)]);
        sum = std::fma(static_cast<float>(dot), scales, sum);
      }
      out(static_cast<std::size_t>(t), static_cast<std::size_t>(o)) = sum * tensor_scales;
    }
  }
}

double bits_per_weight(const LobcqLayout& layout, std::int64_t rows, std::int64_t cols) {
  const std::int64_t row_bytes =
      packed_code_bytes(layout, cols) + packed_selector_bytes(layout, cols) + layout.arrays(cols);
  return static_cast<double>(8 * rows * row_bytes) /
         (static_cast<double>(rows) * static_cast<double>(cols));
}

}  // namespace neap
