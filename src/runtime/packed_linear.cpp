#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "base/half.h"
#include "base/multiversion.h"
#include "base/parallel.h"
#include "kernels/bf16_matmul.h"
#include "kernels/fp4_matmul.h"
#include "kernels/group_matmul.h"
#include "kernels/lobcq_matmul.h"
#include "kernels/read_row.h"
#include "model/packed_linears.h"
#include "neap/error.h"
#include "neap/runtime.h"

namespace neap {
namespace {

constexpr std::array kVocabularyWeights = {std::pair{VocabularyWeights::stored, "stored"},
                                           std::pair{VocabularyWeights::int8, "int8"},
                                           std::pair{VocabularyWeights::lobcq, "lobcq"}};

// What layers make of what they read. Equal ones make the same of the same.
struct LobcqCoding {
  using Inputs = LobcqInputs;
  static Arithmetic arithmetic() { return Arithmetic::int8; }

  InputEncoder inputs;
  void operator()(MatrixView<const float> x, Inputs& to) const {
    to.encode(*inputs.encoder, inputs.tensor_scale, inputs.scales, x);
  }
  bool operator==(const LobcqCoding& other) const {
    return inputs.encoder == other.inputs.encoder && inputs.tensor_scale == other.inputs.tensor_scale &&
           inputs.scales == other.inputs.scales;
  }
};

struct Int8Coding {
  using Inputs = Int8Inputs;
  static Arithmetic arithmetic() { return Arithmetic::int8; }

  Int8Blocks blocks;
  void operator()(MatrixView<const float> x, Inputs& to) const { to.round(blocks, x); }
  bool operator==(const Int8Coding&) const = default;
};

struct Bf16Coding {
  using Inputs = Bf16Inputs;
  static Arithmetic arithmetic() {
    return default_isa() >= Isa::avx512bf16 ? Arithmetic::bf16 : Arithmetic::f32;
  }

  std::size_t block;
  void operator()(MatrixView<const float> x, Inputs& to) const { to.round(block, x); }
  bool operator==(const Bf16Coding&) const = default;
};

template <class Packed, class Coding>
class PackedLinear final : public Linear {
 public:
  PackedLinear(Packed weights, std::span<const float> bias, Coding coding)
      : weights_(std::move(weights)), bias_(bias.begin(), bias.end()), coding_(std::move(coding)) {}

  const Packed& weights() const { return weights_; }
  std::size_t in() const override { return weights_.cols(); }
  std::size_t out() const override { return weights_.rows(); }
  LinearCost cost() const override {
    return {weights_.bytes() + bias_.size() * sizeof(float), Coding::arithmetic()};
  }

  void apply(MatrixView<const float> x, MatrixView<float> y) const override {
    const LinearCall call{this, y};
    apply_together({&call, 1}, x);
  }
  bool shares_inputs(const Linear& other) const override {
    const auto* same = dynamic_cast<const PackedLinear*>(&other);
    return same && same->in() == in() && same->coding_ == coding_;
  }
  void apply_together(std::span<const LinearCall> calls, MatrixView<const float> x) const override {
    thread_local typename Coding::Inputs inputs;
    coding_(x, inputs);
    std::vector<Product<Packed>> products;
    for (const LinearCall& call : calls) {
      const auto& linear = static_cast<const PackedLinear&>(*call.linear);
      products.push_back({&linear.weights_, linear.bias_, call.y});
    }
    multiply(std::span<const Product<Packed>>(products), inputs);
  }

 private:
  Packed weights_;
  std::vector<float> bias_;
  Coding coding_;
};

template <class Packed, class Coding>
std::unique_ptr<const Linear> make_linear(Packed weights, std::span<const float> bias, Coding coding) {
  return std::make_unique<PackedLinear<Packed, Coding>>(std::move(weights), bias, std::move(coding));
}

template <class Packed>
std::unique_ptr<const Linear> int8_linear(Packed weights, std::span<const float> bias) {
  const Int8Coding coding{weights.int8_blocks()};
  return make_linear(std::move(weights), bias, coding);
}

template <class Packed>
std::unique_ptr<const Linear> bf16_linear(Packed weights, std::span<const float> bias) {
  const Bf16Coding coding{weights.bf16_block()};
  return make_linear(std::move(weights), bias, coding);
}

// On inputs of 8 bits.
template <class Packed>
class PackedPart final : public VocabularyPart {
 public:
  PackedPart(Packed weights, Int8Coding inputs) : linear_(std::move(weights), {}, inputs) {}

  std::size_t in() const override { return linear_.in(); }
  std::size_t out() const override { return linear_.out(); }
  LinearCost cost() const override { return linear_.cost(); }
  void apply(MatrixView<const float> x, MatrixView<float> y) const override { linear_.apply(x, y); }
  void read_row(std::size_t row, float* out) const override { neap::read_row(linear_.weights(), row, out); }

 private:
  PackedLinear<Packed, Int8Coding> linear_;
};

template <class Packed>
std::unique_ptr<const VocabularyPart> make_part(Packed weights) {
  const Int8Coding inputs{weights.int8_blocks()};
  return std::make_unique<PackedPart<Packed>>(std::move(weights), inputs);
}

// Codes of a group, 128 standing for 0. Returns the scale: of 8 bits, so that bf16 holds it.
NEAP_MULTIVERSION
float round_group(const float* weight, std::size_t count, std::uint8_t* codes) {
  std::uint32_t largest = std::bit_cast<std::uint32_t>(0x1p-100f);
  for (std::size_t i = 0; i < count; ++i)  // magnitudes are ordered as their bits are
    largest = std::max(largest, std::bit_cast<std::uint32_t>(weight[i]) & 0x7fffffffu);
  const float scale = bf16_to_float(float_to_bf16(std::bit_cast<float>(largest) / 127));
  for (std::size_t i = 0; i < count; ++i) {
    constexpr float kInteger = 0x1.8p23f;  // adding it leaves no room for a fraction: to nearest even
    const auto code = static_cast<std::int32_t>((weight[i] / scale + kInteger) - kInteger);
    codes[i] = static_cast<std::uint8_t>(128 + std::clamp(code, -127, 127));
  }
  return scale;
}

// 8 bits, symmetric, in groups of 64.
QuantizedTensor to_int8(MatrixView<const float> weight) {
  constexpr std::size_t kGroup = 64;
  const GroupLayout layout{.bits = 8, .group = kGroup};
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
      const std::size_t first = kGroup * g, count = std::min(kGroup, weight.cols - first);
      tensor.scales[r * groups + g] =
          round_group(weight.row(r) + first, count, tensor.codes.data() + r * weight.cols + first);
    }
  });
  return tensor;
}

class Kernels final : public PackedLinears {
 public:
  explicit Kernels(const PackedOptions& options) : options_(options) {}

  // The bits of make_coded_linear: both are multiply() of codec/lobcq.h.
  std::unique_ptr<const Linear> coded(const LobcqTensor& weight, const Codebooks& codebooks,
                                      std::span<const float> bias,
                                      const InputEncoder& inputs) const override {
    return make_linear(PackedLobcq(weight, codebooks), bias, LobcqCoding{inputs});
  }

  bool takes(Precision precision) const override {
    return options_.int8_inputs || precision == Precision::bf16;
  }

  std::unique_ptr<const Linear> plain(const LobcqTensor& weight, const Codebooks& codebooks,
                                      std::span<const float> bias,
                                      Precision precision) const override {
    if (!takes(precision)) return nullptr;
    return plain_linear(PackedLobcq(weight, codebooks), bias);
  }

  std::unique_ptr<const Linear> plain(const QuantizedTensor& weight, std::span<const float> bias,
                                      Precision precision) const override {
    if (!takes(precision) || !PackedGroupInt::fits(weight.layout)) return nullptr;
    return plain_linear(PackedGroupInt(weight), bias);
  }

  std::unique_ptr<const Linear> plain(const Fp4Tensor& weight, std::span<const float> bias,
                                      Precision precision) const override {
    return takes(precision) ? plain_linear(PackedFp4(weight), bias) : nullptr;
  }

  // Scales may be negative there: to kernels they are factors as any other.
  std::unique_ptr<const Linear> plain(const GgufTensor& weight, std::span<const float> bias,
                                      Precision precision) const override {
    if (weight.layout.type != DType::q4_0 && weight.layout.type != DType::q8_0) return nullptr;
    const GroupLayout layout{.bits = code_bits(weight.layout), .group = 32, .scale_type = DType::f16};
    return plain({layout, weight.rows, weight.cols, weight.codes, weight.scales, {}}, bias, precision);
  }

  VocabularyWeights head() const override { return options_.head; }
  VocabularyWeights embedding() const override { return options_.embedding; }
  std::unique_ptr<const VocabularyPart> vocabulary_part(VocabularyWeights how,
                                                        MatrixView<const float> rows) const override {
    NEAP_CHECK(how != VocabularyWeights::stored);
    if (how == VocabularyWeights::int8)
      return make_part(PackedGroupInt(to_int8(rows)));
    const CodebookSet set = universal_codebooks({});
    const LobcqEncoder encoder(set.layout, set.weights);
    const float scale = tensor_scale_for(largest_magnitude(rows));
    const LobcqTensor codes = encoder.encode(rows, scale, ScaleChoice::search);
    return make_part(PackedLobcq(codes, set.weights));
  }

 private:
  template <class Packed>
  std::unique_ptr<const Linear> plain_linear(Packed weights, std::span<const float> bias) const {
    return options_.int8_inputs ? int8_linear(std::move(weights), bias)
                                : bf16_linear(std::move(weights), bias);
  }

  PackedOptions options_;
};

}  // namespace

VocabularyWeights vocabulary_weights_from_name(const std::string& name) {
  for (const auto& [weights, known] : kVocabularyWeights) {
    if (name == known) return weights;
  }
  throw Error(ErrorCode::argument, "no such weights of head or embedding",
              {.expected = "stored, int8 or lobcq", .found = "'" + name + "'"});
}

std::string name_of(VocabularyWeights weights) {
  for (const auto& [known, name] : kVocabularyWeights) {
    if (weights == known) return name;
  }
  return "?";
}

std::shared_ptr<const PackedLinears> packed_linears(const PackedOptions& options) {
  return std::make_shared<Kernels>(options);
}

}  // namespace neap
