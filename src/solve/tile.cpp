#include "solve/tile.h"

#include <algorithm>

#include "base/multiversion.h"
#include "solve/snap.h"

namespace neap {
namespace {

NEAP_MULTIVERSION
void round_row(const float* value, const float* scale, const float* zero, float highest,
               std::size_t count, std::uint8_t* code) {
  for (std::size_t r = 0; r < count; ++r) {
    code[r] = static_cast<std::uint8_t>(
        static_cast<int>(nearest_code(value[r], scale[r], zero[r], highest)));
  }
}

NEAP_MULTIVERSION
void subtract_row(const float* value, const float* scale, const float* zero,
                  const std::uint8_t* code, std::size_t count, float* out) {
  for (std::size_t r = 0; r < count; ++r) {
    out[r] = value[r] - scale[r] * (static_cast<float>(code[r]) - zero[r]);
  }
}

NEAP_MULTIVERSION
void add_products_8(const float* f, const float* e, std::size_t stride, std::size_t count,
                    float* __restrict out) {
  for (std::size_t c = 0; c < count; ++c) {
    float sum = out[c];
    for (std::size_t u = 0; u < 8; ++u) sum += f[u] * e[u * stride + c];
    out[c] = sum;
  }
}

NEAP_MULTIVERSION
void add_product(float f, const float* e, std::size_t count, float* __restrict out) {
  for (std::size_t c = 0; c < count; ++c) out[c] += f * e[c];
}

}  // namespace

std::size_t rows_per_tile(std::size_t rows) {
  constexpr std::size_t kLeast = 16, kMost = 64, kTilesWanted = 16;
  const std::size_t even = (rows + kTilesWanted - 1) / kTilesWanted;
  return std::clamp((even + kLeast - 1) / kLeast * kLeast, kLeast, kMost);
}

void load_tile(MatrixView<const float> matrix, std::size_t first,
               const std::vector<std::uint32_t>& input_at, MatrixView<float> out) {
  for (std::size_t r = 0; r < out.cols; ++r) {
    const float* row = matrix.row(first + r);
    for (std::size_t p = 0; p < out.rows; ++p) out(p, r) = row[input_at[p]];
  }
}

TileGrid::TileGrid(const Grid& grid, std::size_t first, std::size_t rows,
                   const std::vector<std::uint32_t>& input_at)
    : highest_(static_cast<float>(grid.highest())),
      scales_(grid.scales.cols(), rows),
      zeros_(grid.scales.cols(), rows) {
  for (const std::uint32_t input : input_at) {
    group_at_.push_back(static_cast<std::uint32_t>(input / grid.group_width()));
  }
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t g = 0; g < scales_.rows(); ++g) {
      scales_(g, r) = grid.scales(first + r, g);
      zeros_(g, r) = grid.zeros(first + r, g);
    }
  }
}

void round_tile(const TileGrid& grid, MatrixView<const float> values,
                MatrixView<std::uint8_t> codes) {
  for (std::size_t p = 0; p < values.rows; ++p) {
    round_row(values.row(p), grid.scale(p), grid.zero(p), grid.highest(), values.cols, codes.row(p));
  }
}

void subtract_weights(const TileGrid& grid, MatrixView<const std::uint8_t> codes,
                      MatrixView<const float> values, MatrixView<float> out) {
  for (std::size_t p = 0; p < values.rows; ++p) {
    subtract_row(values.row(p), grid.scale(p), grid.zero(p), codes.row(p), values.cols, out.row(p));
  }
}

void carry_back(MatrixView<const float> factor, MatrixView<const float> error,
                MatrixView<float> carry) {
  for (std::size_t j = 0; j < carry.rows; ++j) {
    const float* f = factor.row(j);
    if (factor.cols == 8) {
      add_products_8(f, error.row(0), error.stride, carry.cols, carry.row(j));
    } else {
      for (std::size_t u = 0; u < factor.cols; ++u) {
        add_product(f[u], error.row(u), carry.cols, carry.row(j));
      }
    }
  }
}

}  // namespace neap
