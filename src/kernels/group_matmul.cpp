#include "kernels/group_matmul.h"

#include <algorithm>
#include <bit>
#include <string>

#include "base/multiversion.h"
#include "base/parallel.h"
#include "kernels/tiles.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::uint32_t kInfinity = 0x7f800000u;
constexpr float kLeast = 0x1p-100f;

// Bits of the largest magnitude; those of NaN are above infinity's.
NEAP_MULTIVERSION
std::uint32_t largest_bits(const float* x, std::size_t count) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  return largest;
}

NEAP_MULTIVERSION
void round_block(const float* x, std::size_t count, float ratio, std::int8_t* q) {
  constexpr float kInteger = 0x1.8p23f;  // adding it leaves no room for a fraction: to nearest even
  for (std::size_t i = 0; i < count; ++i)
    q[i] =
        static_cast<std::int8_t>(static_cast<std::int32_t>((x[i] * ratio + kInteger) - kInteger));
}

// Returns d; false in *finite for a NaN or infinity.
float round_to_int8(const float* x, std::size_t count, std::int8_t* q, bool* finite) {
  const std::uint32_t bits = largest_bits(x, count);
  if (bits >= kInfinity) *finite = false;
  const auto largest = std::bit_cast<float>(bits);
  if (!(largest >= kLeast) || bits >= kInfinity) {
    std::fill(q, q + count, std::int8_t{0});
    return 0;
  }
  round_block(x, count, 127.0f / largest, q);
  return largest / 127.0f;
}

[[noreturn]] void refuse(MatrixView<const float> x, std::size_t token) {
  std::size_t c = 0;
  while (largest_bits(x.row(token) + c, 1) < kInfinity) ++c;
  throw Error(ErrorCode::data,
              "NaN or infinity in row " + std::to_string(token) + ", column " + std::to_string(c));
}

int offset_of(const GroupShape& shape) { return shape.zeros ? 1 : 1 << (shape.bits - 1); }

}  // namespace

IntegerTokens Int8Inputs::view(std::size_t first) const {
  const std::size_t stride = blocks_ * block_;
  return {reinterpret_cast<const std::int8_t*>(entries_.data()) + first * stride, stride,
          reinterpret_cast<const float*>(scales_.data()) + first * blocks_,
          reinterpret_cast<const std::int32_t*>(starts_.data()) + first * blocks_, nullptr};
}

void Int8Inputs::round(const PackedGroupInt& weights, MatrixView<const float> x, Isa isa) {
  NEAP_CHECK(x.cols == weights.cols());
  const GroupShape& shape = weights.shape();
  tokens_ = x.rows;
  cols_ = x.cols;
  block_ = shape.block;
  blocks_ = shape.blocks;
  offset_ = offset_of(shape);
  const std::size_t stride = blocks_ * block_;
  auto* entries = reinterpret_cast<std::int8_t*>(entries_.bytes(tokens_ * stride));
  auto* starts =
      reinterpret_cast<std::int32_t*>(starts_.bytes(tokens_ * blocks_ * sizeof(std::int32_t)));
  float* scales = scales_.floats(tokens_ * blocks_);
  constexpr std::size_t kRows = 16;
  parallel_for((tokens_ + kRows - 1) / kRows, [&](std::size_t tile) {
    for (std::size_t t = tile * kRows; t < std::min(tokens_, (tile + 1) * kRows); ++t) {
      std::int8_t* to = entries + t * stride;
      bool finite = true;
      for (std::size_t b = 0; b < blocks_; ++b) {
        const std::size_t first = b * block_, count = std::min(block_, cols_ - first);
        scales[t * blocks_ + b] = round_to_int8(x.row(t) + first, count, to + first, &finite);
      }
      if (!finite) refuse(x, t);
      std::fill(to + cols_, to + stride, std::int8_t{0});
      integer_kernels(isa).starts(to, blocks_, block_, offset_, starts + t * blocks_);
    }
  });
}

void multiply(const PackedGroupInt& weights, const Int8Inputs& x, std::span<const float> bias,
              MatrixView<float> y, Isa isa) {
  const GroupShape& shape = weights.shape();
  NEAP_CHECK(x.block() == shape.block && x.offset() == offset_of(shape));
  NEAP_CHECK(x.cols() == weights.cols() && y.rows == x.tokens() && y.cols == weights.rows());
  NEAP_CHECK(bias.empty() || bias.size() == weights.rows());
  const GroupKernels& kernels = group_kernels(isa);
  if (y.rows <= kFewTokens) {
    for_each_panel(weights.panels(), shape.panel_bytes, [&](std::size_t panel) {
      kernels.few(shape, weights.panel(panel), x.view(0), y.rows,
                  output_at(bias, y, 0, panel * kPanelRows, kPanelRows));
    });
    return;
  }
  for_each_pair(weights.panels(), y.rows, [&](const PairTile& tile) {
    const PairBuffer pair(shape.blocks, shape.block, shape.zeros);
    for (std::size_t half = 0; half < 2; ++half) {
      kernels.decode(shape, weights.panel(tile.panel[half]), pair.values(half), pair.scales(half),
                     pair.zeros(half));
    }
    integer_kernels(isa).many(pair.view(shape.bits == 8), x.view(tile.token), tile.tokens,
                              output_at(bias, y, tile.token, tile.row, kPairRows));
  });
}

}  // namespace neap
