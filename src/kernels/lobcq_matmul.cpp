#include "kernels/lobcq_matmul.h"

#include <algorithm>

#include "base/parallel.h"

namespace neap {
namespace {

// Of a decoded pair of panels: its tokens pay for decoding it.
constexpr std::size_t kTileTokens = 192, kPairRows = 2 * kPanelRows;
// Of packed weights, for few tokens: enough to be worth a tile.
constexpr std::size_t kTileBytes = 32768;

template <class T>
T* array_in(Buffer& buffer, std::size_t count) {
  return reinterpret_cast<T*>(buffer.bytes(count * sizeof(T)));
}

// The inputs' tensor scales times the weights'.
std::vector<float> tensor_scales(const PackedLobcq& weights, const LobcqInputs& x) {
  std::vector<float> scales(x.tokens());
  for (std::size_t t = 0; t < scales.size(); ++t)
    scales[t] = x.view(t).tensor_scales[0] * weights.tensor_scale();
  return scales;
}

// Where `rows` rows, or as many as there are, from `row` on go, of tokens from `token` on.
KernelOutput output_at(std::span<const float> bias, MatrixView<float> y, std::size_t token,
                       std::size_t row, std::size_t rows) {
  return {y.row(token) + row, y.stride, std::min(rows, y.cols - row),
          bias.empty() ? nullptr : bias.data() + row};
}

void multiply_few(const PackedLobcq& weights, LobcqTokens x, std::span<const float> bias,
                  MatrixView<float> y, const LobcqKernels& kernels) {
  const LobcqShape& shape = weights.shape();
  const std::size_t per_tile =
      std::max<std::size_t>(1, kTileBytes / (shape.arrays * shape.array_bytes));
  parallel_for((weights.panels() + per_tile - 1) / per_tile, [&](std::size_t tile) {
    const std::size_t end = std::min(weights.panels(), (tile + 1) * per_tile);
    for (std::size_t p = tile * per_tile; p < end; ++p) {
      kernels.few(shape, weights.panel(p), x, y.rows,
                  output_at(bias, y, 0, p * kPanelRows, kPanelRows));
    }
  });
}

// A pair of panels for a range of tokens.
void multiply_pair(const PackedLobcq& weights, const LobcqTokens& x, std::size_t tokens,
                   std::size_t pair, const KernelOutput& out, const LobcqKernels& kernels) {
  thread_local Buffer entry_buffer, scale_buffer;
  const LobcqShape& shape = weights.shape();
  auto* entries =
      array_in<std::uint8_t>(entry_buffer, shape.arrays * shape.block_array * kPairRows);
  float* scales = scale_buffer.floats(shape.arrays * kPairRows);
  for (std::size_t half = 0; half < 2; ++half) {
    // A panel that is missing: any other, its results are not stored.
    const std::size_t panel = std::min(2 * pair + half, weights.panels() - 1);
    kernels.decode(shape, weights.panel(panel), entries + half * kVectorBytes,
                   scales + half * kPanelRows);
  }
  kernels.many(shape, entries, scales, x, tokens, out);
}

}  // namespace

LobcqTokens LobcqInputs::view(std::size_t first) const {
  return {reinterpret_cast<const std::int8_t*>(entries_.data()) + first * stride_, stride_,
          reinterpret_cast<const float*>(scales_.data()) + first * arrays_,
          reinterpret_cast<const std::int32_t*>(starts_.data()) + first * arrays_,
          reinterpret_cast<const float*>(tensor_scales_.data()) + first};
}

void LobcqInputs::encode(const LobcqEncoder& encoder, std::optional<float> tensor_scale,
                         MatrixView<const float> x) {
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
      for (std::size_t a = 0; a < arrays_; ++a) {
        std::int32_t sum = 0;
        for (std::size_t c = a * width; c < (a + 1) * width; ++c) sum += to[c];
        starts[t * arrays_ + a] = -kEntryOffset * sum;
      }
    }
  });
}

void multiply(const PackedLobcq& weights, const LobcqInputs& x, std::span<const float> bias,
              MatrixView<float> y, Isa isa) {
  NEAP_CHECK(x.layout().block_array == weights.layout().block_array);
  NEAP_CHECK(x.cols() == weights.cols() && y.rows == x.tokens() && y.cols == weights.rows());
  NEAP_CHECK(bias.empty() || bias.size() == weights.rows());
  const LobcqKernels& kernels = lobcq_kernels(isa);
  const std::vector<float> scales = tensor_scales(weights, x);
  const auto tokens_from = [&](std::size_t first) {
    LobcqTokens tokens = x.view(first);
    tokens.tensor_scales = scales.data() + first;
    return tokens;
  };
  if (y.rows <= kFewTokens) return multiply_few(weights, tokens_from(0), bias, y, kernels);
  const std::size_t pairs = (weights.panels() + 1) / 2;
  const std::size_t tiles = (y.rows + kTileTokens - 1) / kTileTokens;
  parallel_for(tiles * pairs, [&](std::size_t task) {
    const std::size_t first = task / pairs * kTileTokens, pair = task % pairs;
    multiply_pair(weights, tokens_from(first), std::min(kTileTokens, y.rows - first), pair,
                  output_at(bias, y, first, pair * kPairRows, kPairRows), kernels);
  });
}

}  // namespace neap
