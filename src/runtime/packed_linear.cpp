#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/half.h"
#include "base/parallel.h"
#include "kernels/group_matmul.h"
#include "kernels/lobcq_matmul.h"
#include "model/packed_linears.h"
#include "neap/error.h"
#include "neap/runtime.h"

namespace neap {
namespace {

// What layers over packed weights have in common.
template <class Packed>
class PackedLinear : public Linear {
 public:
  PackedLinear(Packed weights, std::span<const float> bias)
      : weights_(std::move(weights)), bias_(bias.begin(), bias.end()) {}

  std::size_t in() const override { return weights_.cols(); }
  std::size_t out() const override { return weights_.rows(); }
  LinearCost cost() const override {
    return {weights_.bytes() + bias_.size() * sizeof(float), Arithmetic::int8};
  }

 protected:
  Packed weights_;
  std::vector<float> bias_;
};

// W4A4. The bits of make_coded_linear: both are multiply() of codec/lobcq.h.
class LobcqLinear final : public PackedLinear<PackedLobcq> {
 public:
  LobcqLinear(const LobcqTensor& weight, const Codebooks& codebooks, std::span<const float> bias,
              InputEncoder inputs)
      : PackedLinear(PackedLobcq(weight, codebooks), bias), inputs_(std::move(inputs)) {}

  void apply(MatrixView<const float> x, MatrixView<float> y) const override {
    thread_local LobcqInputs coded;
    coded.encode(*inputs_.encoder, inputs_.tensor_scale, x);
    multiply(weights_, coded, bias_, y);
  }

 private:
  InputEncoder inputs_;
};

// On activations of 8 bits.
template <class Packed>
class Int8Linear final : public PackedLinear<Packed> {
 public:
  using PackedLinear<Packed>::PackedLinear;

  void apply(MatrixView<const float> x, MatrixView<float> y) const override {
    thread_local Int8Inputs rounded;
    rounded.round(this->weights_.int8_blocks(), x);
    multiply(this->weights_, rounded, this->bias_, y);
  }
};

// 8 bits, symmetric, in groups of 64.
QuantizedTensor to_int8(MatrixView<const float> weight) {
  const GroupLayout layout{.bits = 8, .group = 64};
  const auto cols = static_cast<std::int64_t>(weight.cols);
  const auto groups = static_cast<std::size_t>(layout.groups(cols));
  QuantizedTensor tensor{layout,
                         static_cast<std::int64_t>(weight.rows),
                         cols,
                         std::vector<std::uint8_t>(weight.rows * weight.cols),
                         std::vector<float>(weight.rows * groups),
                         {}};
  parallel_for(weight.rows, [&](std::size_t r) {
    for (std::size_t g = 0; g < groups; ++g) {
      const std::size_t first = 64 * g, last = std::min(weight.cols, first + 64);
      float largest = 0x1p-100f;
      for (std::size_t c = first; c < last; ++c)
        largest = std::max(largest, std::abs(weight(r, c)));
      const float scale = bf16_to_float(float_to_bf16(largest / 127));
      tensor.scales[r * groups + g] = scale;
      for (std::size_t c = first; c < last; ++c) {
        const float code = std::nearbyint(weight(r, c) / scale);
        tensor.codes[r * weight.cols + c] =
            static_cast<std::uint8_t>(128 + std::clamp(code, -127.0f, 127.0f));
      }
    }
  });
  return tensor;
}

class Kernels final : public PackedLinears {
 public:
  explicit Kernels(const PackedOptions& options) : options_(options) {}

  std::unique_ptr<const Linear> coded(const LobcqTensor& weight, const Codebooks& codebooks,
                                      std::span<const float> bias,
                                      const InputEncoder& inputs) const override {
    return std::make_unique<LobcqLinear>(weight, codebooks, bias, inputs);
  }

  std::unique_ptr<const Linear> plain(const LobcqTensor& weight, const Codebooks& codebooks,
                                      std::span<const float> bias) const override {
    if (!options_.int8_inputs) return nullptr;
    return std::make_unique<Int8Linear<PackedLobcq>>(PackedLobcq(weight, codebooks), bias);
  }

  std::unique_ptr<const Linear> plain(const QuantizedTensor& weight,
                                      std::span<const float> bias) const override {
    if (!options_.int8_inputs || !PackedGroupInt::fits(weight.layout)) return nullptr;
    return std::make_unique<Int8Linear<PackedGroupInt>>(PackedGroupInt(weight), bias);
  }

  std::unique_ptr<const Linear> head(MatrixView<const float> weight) const override {
    if (options_.head == HeadWeights::int8) return plain_int8(PackedGroupInt(to_int8(weight)));
    if (options_.head == HeadWeights::stored) return nullptr;
    const CodebookSet set = universal_codebooks({});
    const LobcqEncoder encoder(set.layout, set.weights);
    const float scale = tensor_scale_for(largest_magnitude(weight));
    return plain_int8(PackedLobcq(encoder.encode(weight, scale, ScaleChoice::search), set.weights));
  }

 private:
  template <class Packed>
  static std::unique_ptr<const Linear> plain_int8(Packed weights) {
    return std::make_unique<Int8Linear<Packed>>(std::move(weights), std::span<const float>());
  }

  PackedOptions options_;
};

}  // namespace

HeadWeights head_weights_from_name(const std::string& name) {
  constexpr std::array kNames = {std::pair{"stored", HeadWeights::stored},
                                 std::pair{"int8", HeadWeights::int8},
                                 std::pair{"lobcq", HeadWeights::lobcq}};
  for (const auto& [known, head] : kNames) {
    if (name == known) return head;
  }
  throw Error(ErrorCode::argument, "no such weights of the head",
              {.expected = "stored, int8 or lobcq", .found = "'" + name + "'"});
}

std::shared_ptr<const PackedLinears> packed_linears(const PackedOptions& options) {
  return std::make_shared<Kernels>(options);
}

}  // namespace neap
