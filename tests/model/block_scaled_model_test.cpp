// Reading NVFP4 with 4-bit activations: what the file says is what is run, and whatever is wrong with it is refused.
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "codec/fp4_pack.h"
#include "codec/fp4_support.h"
#include "editable_model.h"
#include "model/loaded_model.h"
#include "neap/error.h"

namespace neap {
namespace {

using test::EditableModel;

const std::string kModule = "model.layers.1.mlp.gate_proj";  // (44, 64)
constexpr Fp4Layout kNvfp4{BlockScaled::nvfp4};

std::vector<std::byte> bytes_of(float value) {
  std::vector<std::byte> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

class BlockScaledModel : public testing::Test {
 protected:
  BlockScaledModel() {
    const Json weights = {{"num_bits", 4},     {"type", "float"},  {"symmetric", true}, {"strategy", "tensor_group"},
                          {"group_size", 16}, {"dynamic", false}, {"scale_dtype", "torch.float8_e4m3fn"}};
    Json inputs = weights;
    inputs["dynamic"] = "local";
    model_.config["quantization_config"] = {
        {"quant_method", "compressed-tensors"},
        {"format", "nvfp4-pack-quantized"},
        {"config_groups", {{"g", {{"targets", {kModule}}, {"weights", weights}, {"input_activations", inputs}}}}}};
    model_.tensors.erase(kModule + ".weight");
    const auto parts = fp4_parts(kNvfp4, 44, 64);
    auto bytes = encode_fp4_parts(tensor_);
    for (std::size_t i = 0; i < parts.size(); ++i)
      model_.tensors[kModule + parts[i].suffix] = {parts[i].type, parts[i].shape, bytes[i]};
    model_.tensors[kModule + ".input_global_scale"] = {DType::f32, {1}, bytes_of(321)};
  }

  Weights open() {
    const Checkpoint checkpoint = model_.open();
    return Weights(checkpoint, read_config(checkpoint));
  }
  // Opening or decoding fails with an error that contains the words.
  void expect_refused(const std::vector<std::string>& words) {
    try {
      const Weights weights = open();
      weights.weight(1, Role::gate);
      ADD_FAILURE() << "accepted; wanted: " << words[0];
    } catch (const Error& error) {
      for (const std::string& word : words)
        EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what() << " lacks " << word;
    }
  }
  Json& group() { return model_.config["quantization_config"]["config_groups"]["g"]; }

  EditableModel model_{"llama2"};
  Fp4Tensor tensor_ = random_fp4(kNvfp4, 44, 64, 3);
};

TEST_F(BlockScaledModel, IsReadBackAsItWasWritten) {
  const Weights weights = open();
  EXPECT_EQ(std::get<Fp4Tensor>(*weights.packed_weight(kModule)), tensor_);
  EXPECT_FALSE(weights.packed_weight("model.layers.0.mlp.gate_proj").has_value());
  Matrix<float> expected(44, 64);
  dequantize(tensor_, 0, 44, expected);
  const Matrix<float> found = weights.weight(1, Role::gate);
  EXPECT_EQ(std::memcmp(found.data(), expected.data(), 44 * 64 * sizeof(float)), 0);
  EXPECT_EQ(std::get<BlockScaledInputs>(*weights.stored_inputs(kModule)), (BlockScaledInputs{BlockScaled::nvfp4, 16, 321.f}));
  EXPECT_FALSE(weights.stored_inputs("model.layers.0.mlp.gate_proj").has_value());
}

// The layer's output, by hand, is what the block computes; and 16-bit activations are another thing.
TEST_F(BlockScaledModel, ItsInputsAreRoundedUnlessTheyAreKept) {
  const Weights weights = open();
  Matrix<float> x(3, 64), rounded(3, 64), expected(3, 44), found(3, 44), kept(3, 44);
  for (std::size_t i = 0; i < 3 * 64; ++i) x.data()[i] = std::sin(static_cast<float>(i * i));
  round_block_scaled({BlockScaled::nvfp4, 16, 321.f}, x, rounded);
  const auto gate = static_cast<std::size_t>(Role::gate);
  const auto coder = [&](const std::string& module) { return weights.stored_inputs(module); };
  make_dense_linear(weights.weight(1, Role::gate), {}, Precision::f32)->apply(rounded, expected);
  weights.block(1, Precision::f32, coder).linears[gate]->apply(x, found);
  weights.block(1, Precision::f32).linears[gate]->apply(x, kept);
  EXPECT_EQ(std::memcmp(found.data(), expected.data(), 3 * 44 * sizeof(float)), 0);
  EXPECT_NE(std::memcmp(found.data(), kept.data(), 3 * 44 * sizeof(float)), 0);
}

TEST_F(BlockScaledModel, EveryTensorMustBeThereAndNoOther) {
  const auto complete = model_.tensors;
  for (const char* suffix : {".weight_packed", ".weight_scale", ".weight_global_scale", ".input_global_scale"}) {
    model_.tensors.erase(kModule + suffix);
    expect_refused({kModule + suffix});
    model_.tensors = complete;
    auto& tensor = model_.tensors[kModule + suffix];
    tensor.shape.back() += 1;
    tensor.bytes.resize(tensor.bytes.size() / static_cast<std::size_t>(tensor.shape.back() - 1) *
                        static_cast<std::size_t>(tensor.shape.back()));
    expect_refused({kModule + suffix, "wrong shape"});
    model_.tensors = complete;
  }
  model_.tensors[kModule + ".weight_zero_point"] = model_.tensors[kModule + ".weight_global_scale"];
  expect_refused({kModule + ".weight_zero_point"});
}

TEST_F(BlockScaledModel, ScalesThatCannotBeUsedAreRefused) {
  for (const float bad : {0.f, -3.f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const char* suffix : {".weight_global_scale", ".input_global_scale"}) {
      const auto good = model_.tensors[kModule + suffix].bytes;
      model_.tensors[kModule + suffix].bytes = bytes_of(bad);
      expect_refused({kModule + suffix, "cannot be used"});
      model_.tensors[kModule + suffix].bytes = good;
    }
  }
  model_.tensors[kModule + ".weight_scale"].bytes[5] = std::byte{0x81};
  expect_refused({kModule + ".weight_scale", "scale 5"});
}

TEST_F(BlockScaledModel, GroupsMustDivideAndTheHeadsInputsStayAsTheyAre) {
  group()["targets"] = {kModule, "model.layers.0.mlp.down_proj"};  // 44 inputs
  expect_refused({"model.layers.0.mlp.down_proj", "divisor of 44"});
  group()["targets"] = {kModule, "lm_head"};
  model_.tensors.erase("lm_head.weight");
  const auto parts = fp4_parts(kNvfp4, 259, 64);
  const auto bytes = encode_fp4_parts(random_fp4(kNvfp4, 259, 64, 1));
  for (std::size_t i = 0; i < parts.size(); ++i)
    model_.tensors["lm_head" + parts[i].suffix] = {parts[i].type, parts[i].shape, bytes[i]};
  expect_refused({"lm_head", "head's inputs"});
}

}  // namespace
}  // namespace neap
