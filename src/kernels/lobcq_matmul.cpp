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

// Results are multiplied by the tensor scales of both sides; without factors, that of x is 1.
void multiply_tokens(std::span<const Product<PackedLobcq>> products, const IntegerTokens& x,
                     std::size_t tokens, Isa isa) {
  const LobcqKernels& kernels = lobcq_kernels(isa);
  std::vector<float> factors;
  for (const auto& p : products) {
    for (std::size_t t = 0; t < tokens; ++t)
      factors.push_back((x.factors ? x.factors[t] : 1) * p.weights->tensor_scale());
  }
  const auto tokens_of = [&](const auto& p) {
    IntegerTokens its = x;
    its.factors = factors.data() + static_cast<std::size_t>(&p - products.data()) * tokens;
    return its;
  };
  const auto few = [&](const auto& p, std::size_t panel, const KernelOutput& out) {
    kernels.few(p.weights->shape(), p.weights->panel(panel), tokens_of(p), tokens, out);
  };
  const auto many = [&](const auto& p, const PairTile& tile, const KernelOutput& out) {
    const LobcqShape& shape = p.weights->shape();
    const PairBuffer pair(shape.arrays, shape.block_array, false);
    for (std::size_t half = 0; half < 2; ++half) {
      kernels.decode(shape, p.weights->panel(tile.panel[half]), {0, shape.arrays},
                     pair.values(half), pair.scales(half));
    }
    integer_kernels(isa).many(pair.view(), from(tokens_of(p), tile.token, shape.arrays),
                              tile.tokens, out);
  };
  run_products(products, tokens, few, many);
}

}  // namespace

IntegerTokens LobcqInputs::view(std::size_t first) const {
  return {reinterpret_cast<const std::int8_t*>(entries_.data()) + first * stride_, stride_,
          reinterpret_cast<const float*>(scales_.data()) + first * arrays_,
          reinterpret_cast<const std::int32_t*>(starts_.data()) + first * arrays_,
          reinterpret_cast<const float*>(tensor_scales_.data()) + first};
}

void LobcqInputs::encode(const LobcqEncoder& encoder, std::optional<float> tensor_scale,
                         ScaleChoice choice, MatrixView<const float> x, Isa isa) {
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
      encoder.entries(token, tensor_scales[t], choice, {to, 1, cols_},
                      {scales + t * arrays_, 1, arrays_});
      std::fill(to + cols_, to + stride_, std::int8_t{0});
      integer_kernels(isa).starts(to, arrays_, width, kEntryOffset, starts + t * arrays_);
    }
  });
}

void multiply(std::span<const Product<PackedLobcq>> products, const LobcqInputs& x, Isa isa) {
  for (const auto& p : products) {
    NEAP_CHECK(x.layout().block_array == p.weights->layout().block_array);
    NEAP_CHECK(x.cols() == p.weights->cols());
  }
  multiply_tokens(products, x.view(0), x.tokens(), isa);
}

void multiply(std::span<const Product<PackedLobcq>> products, const Int8Inputs& x, Isa isa) {
  for (const auto& p : products)
    NEAP_CHECK(x.blocks() == p.weights->int8_blocks() && x.cols() == p.weights->cols());
  multiply_tokens(products, x.view(0), x.tokens(), isa);
}

}  // namespace neap
