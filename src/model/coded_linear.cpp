#include "model/coded_linear.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/multiversion.h"
#include "base/parallel.h"
#include "codec/minifloat.h"
#include "model/vector16.h"

namespace neap {
namespace {

constexpr std::size_t kOutputs = 2 * kLanes;  // of a strip of weights
constexpr std::size_t kTokens = 64;           // of a tile
constexpr std::size_t kGroup = 4;             // tokens whose sums stay in registers
constexpr std::size_t kLongest = 128;         // values of an array

float scale_of(const InputEncoder& inputs, MatrixView<const float> token) {
  return inputs.tensor_scale ? *inputs.tensor_scale : tensor_scale_for(largest_magnitude(token));
}

// Inputs as integers: what is left of LO-BCQ once codes are looked up.
struct CodedInputs {
  Matrix<std::int8_t> entries;      // (tokens, arrays * array), 0 past the last column
  Matrix<float> scales;             // (tokens, arrays), without the tensor's
  std::vector<float> tensor_scale;  // a token's

  CodedInputs(std::size_t tokens, std::size_t arrays, std::size_t array)
      : entries(tokens, arrays * array), scales(tokens, arrays), tensor_scale(tokens) {}
};

// One row of a tensor to entries and E4M3 values.
void look_up(const LobcqTensor& tensor, const Codebooks& codebooks, std::size_t row,
             std::int8_t* entries, float* scales) {
  const LobcqLayout& layout = tensor.layout;
  const auto cols = static_cast<std::size_t>(tensor.cols),
             block = static_cast<std::size_t>(layout.block);
  const auto arrays = static_cast<std::size_t>(layout.arrays(tensor.cols));
  const auto blocks = static_cast<std::size_t>(layout.blocks(tensor.cols));
  const auto array = static_cast<std::size_t>(layout.block_array);
  for (std::size_t a = 0; a < arrays; ++a) {
    const E4m3 scale = tensor.scales[row * arrays + a];
    scales[a] = e4m3_to_float(scale);
    if (scale == 0) continue;  // what its codes point at does not count
    for (std::size_t c = a * array; c < std::min(cols, (a + 1) * array); ++c) {
      entries[c] =
          codebooks[tensor.selectors[row * blocks + c / block]][tensor.codes[row * cols + c]];
    }
  }
}

CodedInputs encode(const InputEncoder& inputs, MatrixView<const float> x, std::size_t arrays) {
  const auto array = static_cast<std::size_t>(inputs.encoder->layout().block_array);
  CodedInputs coded(x.rows, arrays, array);
  constexpr std::size_t kRows = 16;
  parallel_for((x.rows + kRows - 1) / kRows, [&](std::size_t tile) {
    for (std::size_t t = tile * kRows; t < std::min(x.rows, (tile + 1) * kRows); ++t) {
      const MatrixView<const float> token = x.row_range(t, 1);
      const LobcqTensor tensor =
          inputs.encoder->encode(token, scale_of(inputs, token), inputs.scales);
      look_up(tensor, inputs.codebooks, 0, coded.entries.row(t), coded.scales.row(t));
      coded.tensor_scale[t] = tensor.tensor_scale;
    }
  });
  return coded;
}

// sums(t, o) = fma(dot of the array's entries, x_scales[t] * w_scales[o], sums(t, o)). The entries
// are small integers and so are all partial sums of their products (128 * 31^2 < 2^24): fp32 holds
// them exactly, in any order. x: (kGroup tokens, stride), w: (array, kOutputs).
NEAP_INLINE void add_array(const float* x, std::size_t stride, const float* w, std::size_t array,
                           const float* x_scales, const float* w_scales, float* sums) {
  Vec dots[kGroup][2] = {};
  for (std::size_t k = 0; k < array; ++k) {
    const Vec w0 = load(w + k * kOutputs), w1 = load(w + k * kOutputs + kLanes);
    for (std::size_t t = 0; t < kGroup; ++t) {
      const float value = x[t * stride + k];
      dots[t][0] += value * w0;
      dots[t][1] += value * w1;
    }
  }
  for (std::size_t t = 0; t < kGroup; ++t) {
    float dot[kOutputs];
    store(dots[t][0], dot);
    store(dots[t][1], dot + kLanes);
    float* sum = sums + t * kOutputs;
    for (std::size_t o = 0; o < kOutputs; ++o)
      sum[o] = std::fma(dot[o], x_scales[t] * w_scales[o], sum[o]);
  }
}

// A strip of outputs for a tile of tokens. x: (kTokens, arrays * array); x_scales: (arrays,
// kTokens); w, w_scales: the strip's, by array; tensor_scales: (kTokens); out: (kTokens, kOutputs),
// zeros. A function of its own also so that no sum with a bias is fused into its last product.
NEAP_MULTIVERSION __attribute__((noinline)) void multiply_strip(
    const float* x, const float* x_scales, const std::int8_t* w, const float* w_scales,
    std::size_t arrays, std::size_t array, std::size_t tokens, const float* tensor_scales,
    float* out) {
  float wide[kLongest * kOutputs];
  for (std::size_t a = 0; a < arrays; ++a) {
    for (std::size_t i = 0; i < array * kOutputs; ++i)
      wide[i] = static_cast<float>(w[a * array * kOutputs + i]);
    for (std::size_t t = 0; t < tokens; t += kGroup) {
      add_array(x + t * arrays * array + a * array, arrays * array, wide, array,
                x_scales + a * kTokens + t, w_scales + a * kOutputs, out + t * kOutputs);
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t o = 0; o < kOutputs; ++o) out[t * kOutputs + o] *= tensor_scales[t];
  }
}

class CodedLinear final : public Linear {
 public:
  CodedLinear(const LobcqTensor& weight, const Codebooks& codebooks, std::span<const float> bias,
              InputEncoder inputs)
      : inputs_(std::move(inputs)),
        bias_(bias.begin(), bias.end()),
        in_(static_cast<std::size_t>(weight.cols)),
        out_(static_cast<std::size_t>(weight.rows)),
        array_(static_cast<std::size_t>(weight.layout.block_array)),
        arrays_(static_cast<std::size_t>(weight.layout.arrays(weight.cols))),
        tensor_scale_(weight.tensor_scale),
        entries_(strips() * arrays_ * array_ * kOutputs),
        scales_(strips() * arrays_ * kOutputs) {
    check_codebooks(weight.layout, codebooks);
    NEAP_CHECK(inputs_.encoder->layout().block_array == weight.layout.block_array);
    NEAP_CHECK(bias_.empty() || bias_.size() == out_);
    parallel_for(strips(), [&](std::size_t strip) { pack(weight, codebooks, strip); });
  }

  std::size_t in() const override { return in_; }
  std::size_t out() const override { return out_; }

  void apply(MatrixView<const float> x, MatrixView<float> y) const override {
    NEAP_CHECK(x.cols == in_ && y.cols == out_ && x.rows == y.rows);
    const CodedInputs coded = encode(inputs_, x, arrays_);
    // Few tokens: many tiles of outputs; many tokens: the other way round.
    const std::size_t tiles = (x.rows + kTokens - 1) / kTokens;
    constexpr std::size_t kStrips = 16;
    const std::size_t parts = (strips() + kStrips - 1) / kStrips;
    parallel_for(tiles * parts, [&](std::size_t task) {
      const std::size_t first = task % parts * kStrips;
      multiply(coded, task / parts * kTokens, first, std::min(first + kStrips, strips()), y);
    });
  }
  LinearCost cost() const override {
    return {entries_.size() + (scales_.size() + bias_.size()) * sizeof(float), Arithmetic::f32};
  }

 private:
  std::size_t strips() const { return (out_ + kOutputs - 1) / kOutputs; }

  // (arrays, array, kOutputs), zeros for outputs that are not there.
  void pack(const LobcqTensor& weight, const Codebooks& codebooks, std::size_t strip) {
    std::vector<std::int8_t> row(arrays_ * array_);
    std::vector<float> scales(arrays_);
    for (std::size_t o = 0; o < std::min(kOutputs, out_ - strip * kOutputs); ++o) {
      std::fill(row.begin(), row.end(), std::int8_t{0});
      look_up(weight, codebooks, strip * kOutputs + o, row.data(), scales.data());
      for (std::size_t k = 0; k < row.size(); ++k)
        entries_[(strip * row.size() + k) * kOutputs + o] = row[k];
      for (std::size_t a = 0; a < arrays_; ++a)
        scales_[(strip * arrays_ + a) * kOutputs + o] = scales[a];
    }
  }

  void multiply(const CodedInputs& coded, std::size_t first, std::size_t strip, std::size_t last,
                MatrixView<float> y) const {
    const std::size_t tokens = std::min(kTokens, y.rows - first), width = arrays_ * array_;
    const std::size_t padded = (tokens + kGroup - 1) / kGroup * kGroup;
    std::vector<float> x(padded * width), x_scales(arrays_ * kTokens), out(kTokens * kOutputs);
    std::vector<float> tensor_scales(kTokens);
    for (std::size_t t = 0; t < tokens; ++t) {
      std::copy_n(coded.entries.row(first + t), width, x.data() + t * width);
      for (std::size_t a = 0; a < arrays_; ++a)
        x_scales[a * kTokens + t] = coded.scales(first + t, a);
      tensor_scales[t] = coded.tensor_scale[first + t] * tensor_scale_;
    }
    for (; strip < last; ++strip) {
      std::fill(out.begin(), out.end(), 0.0f);
      multiply_strip(x.data(), x_scales.data(), entries_.data() + strip * width * kOutputs,
                     scales_.data() + strip * arrays_ * kOutputs, arrays_, array_, padded,
                     tensor_scales.data(), out.data());
      const std::size_t begin = strip * kOutputs, count = std::min(kOutputs, out_ - begin);
      for (std::size_t t = 0; t < tokens; ++t) {
        float* to = y.row(first + t) + begin;
        std::copy_n(out.data() + t * kOutputs, count, to);
        for (std::size_t o = 0; o < count && !bias_.empty(); ++o) to[o] += bias_[begin + o];
      }
    }
  }

  InputEncoder inputs_;
  std::vector<float> bias_;
  std::size_t in_, out_, array_, arrays_;
  float tensor_scale_;
  std::vector<std::int8_t> entries_;
  std::vector<float> scales_;
};

void round_token(const InputEncoder& inputs, MatrixView<const float> token, MatrixView<float> out) {
  inputs.encoder->round(token, scale_of(inputs, token), inputs.scales, out);
}

void round_token(const BlockScaledInputs& inputs, MatrixView<const float> token, MatrixView<float> out) {
  round_block_scaled(inputs, token, out);
}

class InputCodingLinear final : public Linear {
 public:
  InputCodingLinear(std::unique_ptr<const Linear> inner, InputEncoding inputs)
      : inner_(std::move(inner)), inputs_(std::move(inputs)) {}

  std::size_t in() const override { return inner_->in(); }
  std::size_t out() const override { return inner_->out(); }

  void apply(MatrixView<const float> x, MatrixView<float> y) const override {
    auto rounded = Matrix<float>::unset(x.rows, x.cols);
    constexpr std::size_t kRows = 16;
    parallel_for((x.rows + kRows - 1) / kRows, [&](std::size_t tile) {
      for (std::size_t t = tile * kRows; t < std::min(x.rows, (tile + 1) * kRows); ++t) {
        std::visit([&](const auto& its) { round_token(its, x.row_range(t, 1), rounded.view().row_range(t, 1)); },
                   inputs_);
      }
    });
    inner_->apply(rounded, y);
  }
  LinearCost cost() const override { return inner_->cost(); }

 private:
  std::unique_ptr<const Linear> inner_;
  InputEncoding inputs_;
};

}  // namespace

std::unique_ptr<Linear> make_coded_linear(const LobcqTensor& weight,
                                          const Codebooks& weight_codebooks,
                                          std::span<const float> bias, InputEncoder inputs) {
  return std::make_unique<CodedLinear>(weight, weight_codebooks, bias, std::move(inputs));
}

std::unique_ptr<Linear> make_input_coding_linear(std::unique_ptr<const Linear> inner,
                                                 InputEncoding inputs) {
  return std::make_unique<InputCodingLinear>(std::move(inner), std::move(inputs));
}

}  // namespace neap
