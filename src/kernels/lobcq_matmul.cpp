#include "kernels/lobcq_matmul.h"

#include <algorithm>

#include "base/parallel.h"
#include "kernels/tiles.h"

namespace neap {
namespace {

template <class T>
T* array_in(Buffer& buffer, std::size_t count) {
  return reinterpret_cast<T*>(buffer.bytes(count * sizeof(T)));
}

IntegerTokens from(IntegerTokens tokens, std::size_t first, std::size_t blocks) {
  return {tokens.entries + first * tokens.stride, tokens.stride, tokens.scales + first * blocks,
          tokens.starts + first * blocks, tokens.factors + first};
}

void multiply_tokens(const PackedLobcq& weights, const IntegerTokens& x,
                     std::span<const float> bias, MatrixView<float> y, Isa isa) {
  NEAP_CHECK(y.cols == weights.rows() && (bias.empty() || bias.size() == weights.rows()));
  const LobcqShape& shape = weights.shape();
  const LobcqKernels& kernels = lobcq_kernels(isa);
  if (y.rows <= kFewTokens) {
    for_each_panel(weights.panels(), shape.arrays * shape.array_bytes, [&](std::size_t panel) {
      kernels.few(shape, weights.panel(panel), x, y.rows,
                  output_at(bias, y, 0, panel * kPanelRows, kPanelRows));
    });
    return;
  }
  for_each_pair(weights.panels(), y.rows, [&](const PairTile& tile) {
    const PairBuffer pair(shape.arrays, shape.block_array, false);
    for (std::size_t half = 0; half < 2; ++half)
      kernels.decode(shape, weights.panel(tile.panel[half]), pair.values(half), pair.scales(half));
    integer_kernels(isa).many(pair.view(), from(x, tile.token, shape.arrays), tile.tokens,
                              output_at(bias, y, tile.token, tile.row, kPairRows));
  });
}

}  // namespace

IntegerTokens LobcqInputs::view(std::size_t first) const {
  return {reinterpret_cast<const std::int8_t*>(entries_.data()) + first * stride_, stride_,
          reinterpret_cast<const float*>(scales_.data()) + first * arrays_,
          reinterpret_cast<const std::int32_t*>(starts_.data()) + first * arrays_,
          reinterpret_cast<const float*>(tensor_scales_.data()) + first};
}

void LobcqInputs::encode(const LobcqEncoder& encoder, std::optional<float> tensor_scale,
                         MatrixView<const float> x, Isa isa) {
  layout_ = encoder.layout();
  tokens_ = x.rows;
  cols_ = x.cols;
  arrays_ = static_cast<std::size_t>(layout_.arrays(static_cast<std::int64_t>(cols_)));
  const auto width = static_cast<std::size_t>(layout_.block_array);
  stride_ = arrays_ * width;
  auto* entries = array_in<std::int8_t>(entries_, tokens_ * stride_);
  auto* starts = array_in<std::int32_t>(starts_, tokens_ * arrays_);
  float* scales = scales_.floats(tokens_ * arrays_);
  float* tensor_scales = tensor_scales_.floats(tokens_);
  constexpr std::size_t kRows = 8;
  parallel_for((tokens_ + kRows - 1) / kRows, [&](std::size_t tile) {
    for (std::size_t t = tile * kRows; t < std::min(tokens_, (tile + 1) * kRows); ++t) {
      const MatrixView<const float> token = x.row_range(t, 1);
      std::int8_t* to = entries + t * stride_;
      tensor_scales[t] = tensor_scale ? *tensor_scale : tensor_scale_for(largest_magnitude(token));
      encoder.entries(token, tensor_scales[t], ScaleChoice::maximum, {to, 1, cols_},
                      {scales + t * arrays_, 1, arrays_});
      std::fill(to + cols_, to + stride_, std::int8_t{0});
      integer_kernels(isa).starts(to, arrays_, width, kEntryOffset, starts + t * arrays_);
    }
  });
}

void multiply(const PackedLobcq& weights, const LobcqInputs& x, std::span<const float> bias,
              MatrixView<float> y, Isa isa) {
  NEAP_CHECK(x.layout().block_array == weights.layout().block_array);
  NEAP_CHECK(x.cols() == weights.cols() && y.rows == x.tokens());
  IntegerTokens tokens = x.view(0);
  std::vector<float> factors(y.rows);
  for (std::size_t t = 0; t < y.rows; ++t) factors[t] = tokens.factors[t] * weights.tensor_scale();
  tokens.factors = factors.data();
  multiply_tokens(weights, tokens, bias, y, isa);
}

void multiply(const PackedLobcq& weights, const Int8Inputs& x, std::span<const float> bias,
              MatrixView<float> y, Isa isa) {
  NEAP_CHECK(x.blocks() == weights.int8_blocks());
  NEAP_CHECK(x.cols() == weights.cols() && y.rows == x.tokens());
  IntegerTokens tokens = x.view(0);
  const std::vector<float> factors(y.rows, weights.tensor_scale());
  tokens.factors = factors.data();
  multiply_tokens(weights, tokens, bias, y, isa);
}

}  // namespace neap
