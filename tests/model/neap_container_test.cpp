// Reading Neap's own container: what it says is what is run, and whatever is wrong with it is
// refused.
#include <gtest/gtest.h>

#include <functional>

#include "codec/lobcq_pack.h"
#include "codec/lobcq_support.h"
#include "editable_model.h"
#include "model/loaded_model.h"
#include "model/neap_config.h"
#include "neap/error.h"

namespace neap {
namespace {

using test::EditableModel;

constexpr LobcqLayout kLayout{.block_array = 16, .block = 4, .codebooks = 4};
const std::string kModule = "model.layers.1.mlp.gate_proj";  // (44, 64)

std::vector<std::byte> bytes_of(float value) {
  std::vector<std::byte> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

class NeapContainer : public testing::Test {
 protected:
  NeapContainer() {
    NeapConfig config{.layout = kLayout, .inputs = InputScales::fixed, .ignore = {"lm_head"}};
    for (int layer = 0; layer < 2; ++layer) {
      for (std::size_t r = 0; r < kRoles; ++r) {
        const std::string module = module_name(layer, static_cast<Role>(r));
        if (module != kModule) config.ignore.push_back(module);
      }
    }
    model_.config["quantization_config"] = Json::parse(config.to_json().dump());
    tensor_ = random_lobcq(kLayout, 44, 64, 3);
    model_.tensors.erase(kModule + ".weight");
    const auto parts = lobcq_parts(kLayout, 44, 64);
    auto bytes = encode_lobcq_parts(tensor_);
    for (std::size_t i = 0; i < parts.size(); ++i)
      put(kModule + parts[i].suffix, parts[i].type, parts[i].shape, bytes[i]);
    put(kModule + std::string(kInputScale), DType::f32, {1}, bytes_of(0.5f));
    put(std::string(kWeightCodebooks), DType::i8, {4, 16}, encode_codebooks(weights_));
    put(std::string(kActivationCodebooks), DType::i8, {4, 16}, encode_codebooks(activations_));
  }

  void put(const std::string& name, DType type, const Shape& shape, std::vector<std::byte> bytes) {
    model_.tensors[name] = {type, shape, std::move(bytes)};
  }
  Weights open() {
    const Checkpoint checkpoint = model_.open();
    return Weights(checkpoint, read_config(checkpoint));
  }
  // Opening fails with an error that contains the words.
  void expect_refused(const std::vector<std::string>& words) {
    try {
      const Weights weights = open();
      weights.weight(1, Role::gate);
      ADD_FAILURE() << "accepted; wanted: " << words[0];
    } catch (const Error& error) {
      for (const std::string& word : words) {
        EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
            << error.what() << " lacks " << word;
      }
    }
  }

  EditableModel model_{"llama2"};
  LobcqTensor tensor_;
  Codebooks weights_ = random_codebooks(kLayout, 1), activations_ = random_codebooks(kLayout, 2);
};

TEST_F(NeapContainer, IsReadBackAsItWasWritten) {
  const Weights weights = open();
  EXPECT_EQ(std::get<LobcqTensor>(*weights.packed_weight(kModule)), tensor_);
  EXPECT_FALSE(weights.packed_weight("model.layers.0.mlp.gate_proj").has_value());
  Matrix<float> expected(44, 64);
  dequantize(tensor_, weights_, 0, 44, expected);
  const Matrix<float> found = weights.weight(1, Role::gate);
  EXPECT_EQ(std::memcmp(found.data(), expected.data(), 44 * 64 * sizeof(float)), 0);
  const auto inputs = std::get<InputEncoder>(*weights.stored_inputs(kModule));
  EXPECT_EQ(inputs.tensor_scale, 0.5f);
  EXPECT_EQ(inputs.codebooks, activations_);
  EXPECT_FALSE(weights.stored_inputs("model.layers.0.mlp.gate_proj").has_value());
  EXPECT_EQ(weights.codebooks(), (CodebookSet{kLayout, weights_, activations_}));
}

TEST_F(NeapContainer, RunsInTheFormatsArithmeticUnlessToldOtherwise) {
  const auto states_of = [&](InputCoding inputs) {
    LoadOptions options{.precision = Precision::f32, .max_memory = 0};
    options.inputs = inputs;
    const auto model = load_model(model_.open(), options);
    const std::vector<TokenId> tokens = {5, 9, 200, 31, 77};
    Matrix<float> states(5, static_cast<std::size_t>(model->config().hidden));
    model->forward(tokens, 5, states);
    return std::vector<float>(states.data(), states.data() + states.rows() * states.cols());
  };
  const auto stored = states_of(InputCoding::stored), keep = states_of(InputCoding::keep),
             lobcq = states_of(InputCoding::lobcq);
  EXPECT_NE(stored, keep);   // one layer's inputs encoded, none's
  EXPECT_NE(stored, lobcq);  // all layers' inputs
  model_.config["quantization_config"]["activations"] = "none";
  model_.tensors.erase(kModule + std::string(kInputScale));
  model_.tensors.erase(std::string(kActivationCodebooks));
  EXPECT_EQ(states_of(InputCoding::stored), keep);
}

TEST_F(NeapContainer, EveryTensorIsNeededAndNoneMayBeLeftOver) {
  const auto whole = model_.tensors;
  for (const std::string& name :
       {kModule + ".weight_packed", kModule + ".weight_selector", kModule + ".weight_scale",
        kModule + ".weight_global_scale", kModule + ".weight_shape",
        kModule + ".input_global_scale", std::string("lobcq.weight_codebooks"),
        std::string("lobcq.activation_codebooks")}) {
    model_.tensors.erase(name);
    expect_refused({name});
    model_.tensors = whole;
  }
  put("lobcq.other", DType::i8, {1}, {std::byte{0}});
  expect_refused({"lobcq.other"});
  model_.tensors = whole;
  model_.config["quantization_config"]["activations"] =
      "dynamic";  // which has no scale in the file
  expect_refused({kModule + ".input_global_scale"});
}

TEST_F(NeapContainer, EveryOtherShapeAndTypeIsRefused) {
  const auto whole = model_.tensors;
  for (const auto& [name, unused] : whole) {
    if (!name.starts_with(kModule) && !name.starts_with("lobcq.")) continue;
    const auto refused = [&](const auto& change) {
      auto& tensor = model_.tensors[name];
      change(tensor);
      std::size_t bytes = block_bytes(tensor.type);
      for (const std::int64_t n : tensor.shape) bytes *= static_cast<std::size_t>(n);
      tensor.bytes.resize(bytes);
      expect_refused({"model.safetensors", name, "expected"});
      model_.tensors = whole;
    };
    using Tensor = EditableModel::Tensor;
    refused([](Tensor& t) { ++t.shape[0]; });
    if (whole.at(name).shape.back() > 1) refused([](Tensor& t) { --t.shape.back(); });
    refused([](Tensor& t) { t.type = t.type == DType::i16 ? DType::f16 : DType::i16; });
  }
}

TEST_F(NeapContainer, ValuesThatMeanNothingAreRefused) {
  const auto whole = model_.tensors;
  const auto refused = [&](const std::string& name, std::size_t at, std::uint8_t byte) {
    model_.tensors[name].bytes[at] = std::byte{byte};
    expect_refused({"model.safetensors", name});
    model_.tensors = whole;
  };
  refused(kModule + ".weight_scale", 5, 0x7f);  // NaN
  refused(kModule + ".weight_scale", 5, 0x80);  // -0
  refused(kModule + ".weight_shape", 0, 45);
  refused("lobcq.weight_codebooks", 0, 32);    // out of range
  refused("lobcq.weight_codebooks", 1, 0x80);  // descends
  refused("lobcq.activation_codebooks", 63, 0xe1);
  for (const float scale :
       {0.f, -1.f, 0x1p-61f, 0x1p61f, std::numeric_limits<float>::quiet_NaN()}) {
    for (const char* suffix : {".input_global_scale", ".weight_global_scale"}) {
      model_.tensors[kModule + suffix].bytes = bytes_of(scale);
      expect_refused({"model.safetensors", kModule + suffix});
      model_.tensors = whole;
    }
  }
}

TEST_F(NeapContainer, AConfigurationOfAnotherKindIsRefusedByKey) {
  const Json whole = model_.config;
  const auto refused = [&](const char* key, const Json& value) {
    value.is_discarded() ? void(model_.config["quantization_config"].erase(key))
                         : void(model_.config["quantization_config"][key] = value);
    expect_refused({"config.json", key});
    model_.config = whole;
  };
  const Json absent(Json::value_t::discarded);
  for (const char* key :
       {"version", "scheme", "block_array", "block", "num_codebooks", "activations", "ignore"}) {
    refused(key, absent);
  }
  refused("version", 2);
  refused("version", "1");
  refused("scheme", "nvfp4");
  refused("block_array", 24);
  refused("block", 16);
  refused("num_codebooks", 3);
  refused("num_codebooks", 8.5);
  refused("activations", "int8");
  refused("ignore", Json::array());  // the head is among the packed
  refused("ignore", "lm_head");
  refused("another", 1);
}

TEST(NeapConfig, SaysInJsonWhatItIs) {
  for (const InputScales inputs : {InputScales::none, InputScales::fixed, InputScales::dynamic}) {
    const NeapConfig config{.layout = {128, 2, 16}, .inputs = inputs, .ignore = {"a", "lm_head"}};
    const std::string text =
        Json{{"quantization_config", Json::parse(config.to_json().dump())}}.dump();
    const auto found = NeapConfig::from_config(text, "config.json");
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->layout, config.layout);
    EXPECT_EQ(found->inputs, config.inputs);
    EXPECT_EQ(found->ignore, config.ignore);
    EXPECT_FALSE(found->packs("a"));
    EXPECT_TRUE(found->packs("b"));
  }
  EXPECT_FALSE(NeapConfig::from_config("{}", "config.json").has_value());
  EXPECT_FALSE(
      NeapConfig::from_config(R"({"quantization_config": {"quant_method": "gptq"}})", "config.json")
          .has_value());
}

}  // namespace
}  // namespace neap
