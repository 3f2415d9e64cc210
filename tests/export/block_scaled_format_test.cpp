// compressed-tensors' NVFP4, MXFP4 and INT4 with 4-bit activations: written, read back and compared as every output
// is. That compressed-tensors reads the same: tests/peers/block_scaled_peer.py.
#include "codec/fp4_support.h"
#include "export/support.h"
#include "io/json.h"

namespace neap {
namespace {

constexpr GroupLayout kInt4{.bits = 4, .group = 64, .symmetric = true, .scale_type = DType::bf16};
constexpr Fp4Layout kNvfp4{BlockScaled::nvfp4}, kMxfp4{BlockScaled::mxfp4};

struct Case {
  WeightLayout layout;
  std::optional<BlockScaledInputs> inputs;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Fp4Layout& layout : {kNvfp4, kMxfp4}) {
    all.push_back({layout, {}});
    all.push_back({layout, BlockScaledInputs{layout.format, layout.group()}});
  }
  all.push_back({kInt4, BlockScaledInputs{BlockScaled::int4, 64}});
  return all;
}

class BlockScaledFormatTest : public ScratchTest {
 protected:
  // Random tensors of every module of llama2 whose 64 inputs all groups divide; what was written.
  std::map<std::string, QuantizedWeight> export_random(const Case& its, const std::string& name) {
    const Weights source = open_weights(golden_model("llama2"));
    WeightLayouts layouts;
    for (const std::string& module : linear_modules(source.config())) {
      if (module != "lm_head" && !module.ends_with("down_proj")) layouts[module] = its.layout;
    }
    ModelWriter writer(source, layouts, make_compressed_tensors_format(its.inputs), {.output = at(name)});
    std::map<std::string, QuantizedWeight> weights;
    std::uint32_t seed = 1;
    for (const auto& [module, layout] : layouts) {
      const Shape shape = linear_shape(source.config(), module);
      const auto* fp4 = std::get_if<Fp4Layout>(&layout);
      weights[module] = fp4 ? QuantizedWeight(random_fp4(*fp4, shape[0], shape[1], ++seed))
                            : QuantizedWeight(random_tensor(kInt4, shape[0], shape[1], ++seed));
      std::optional<float> scale;
      if (its.inputs && its.inputs->format == BlockScaled::nvfp4) scale = scale_of(module);
      writer.write(module, {weights[module], scale});
    }
    writer.finish();
    return weights;
  }

  static float scale_of(const std::string& module) { return 100.0f + static_cast<float>(module.size()); }
};

TEST_F(BlockScaledFormatTest, WeightsAndInputsAreReadBack) {
  int number = 0;
  for (const Case& its : cases()) {
    const std::string folder = std::to_string(number++);
    const auto weights = export_random(its, folder);
    const Weights output = open_weights(at(folder));
    for (const auto& [module, weight] : weights) {
      EXPECT_EQ(*output.packed_weight(module), weight) << folder << " " << module;
      const auto inputs = output.stored_inputs(module);
      ASSERT_EQ(inputs.has_value(), its.inputs.has_value());
      if (!inputs) continue;
      BlockScaledInputs expected = *its.inputs;
      if (expected.format == BlockScaled::nvfp4) expected.global_scale = scale_of(module);
      EXPECT_EQ(std::get<BlockScaledInputs>(*inputs), expected);
    }
    EXPECT_FALSE(output.stored_inputs("model.layers.0.mlp.down_proj").has_value());
  }
}

TEST_F(BlockScaledFormatTest, TheConfigurationIsInTheWordsOfCompressedTensors) {
  export_random({kNvfp4, BlockScaledInputs{BlockScaled::nvfp4, 16}}, "out");
  const Json config = parse_json(read_text_file(at("out/config.json")), "config.json")["quantization_config"];
  EXPECT_EQ(config["format"], "nvfp4-pack-quantized");
  const Json& group = config["config_groups"]["group_0"];
  EXPECT_EQ(group["format"], "nvfp4-pack-quantized");
  EXPECT_EQ(group["weights"], Json::parse(R"({"num_bits": 4, "type": "float", "symmetric": true,
      "strategy": "tensor_group", "group_size": 16, "dynamic": false, "scale_dtype": "torch.float8_e4m3fn"})"));
  Json inputs = group["weights"];
  inputs["dynamic"] = "local";
  EXPECT_EQ(group["input_activations"], inputs);
}

TEST_F(BlockScaledFormatTest, FlippedBitsAreNoticedAnywhere) {
  int number = 0;
  for (const Case& its : cases()) {
    const std::string folder = std::to_string(number++);
    const auto weights = export_random(its, folder);
    expect_flips_noticed(at(folder), expectation_of(at(folder), weights), 100);
  }
}

TEST_F(BlockScaledFormatTest, EveryTruncationOfTheFileIsRefused) {
  int number = 0;
  for (const Case& its : cases()) {
    const std::string folder = std::to_string(number++);
    export_random(its, folder);
    expect_truncations_refused(at(folder));
  }
}

TEST_F(BlockScaledFormatTest, HoldsNeitherBrokenGroupsNorAHeadOnRoundedInputs) {
  const Weights source = open_weights(golden_model("llama2"));
  const auto refused = [&](const std::string& module, const Case& its) {
    const Error error = error_of([&] {
      ModelWriter(source, {{module, its.layout}}, make_compressed_tensors_format(its.inputs), {.output = at("out")});
    });
    EXPECT_EQ(error.code(), ErrorCode::argument);
    EXPECT_EQ(error.context().tensor, module);
  };
  const std::string down = "model.layers.0.mlp.down_proj", up = "model.layers.0.mlp.up_proj";  // 44 and 64 inputs
  for (const Case& its : cases()) {
    refused(down, its);
    if (its.inputs) refused("lm_head", its);
  }
  refused(up, {kInt4, BlockScaledInputs{BlockScaled::int4, 128}});
  refused(up, {LobcqLayout{}, {}});
  EXPECT_EQ(entries(), 0u);
}

}  // namespace
}  // namespace neap
