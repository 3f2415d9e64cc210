#include "export/hf_config.h"

#include "export/support.h"
#include "io/json.h"
#include "model/config.h"
#include "model/packed_modules.h"

namespace neap {
namespace {

std::string text_of(const Checkpoint& checkpoint, const ModelConfig& config,
                    const Layouts& layouts) {
  return output_config(checkpoint, config, *make_compressed_tensors_format(), widened(layouts));
}

Json config_of(const std::string& model, const Layouts& layouts) {
  const Checkpoint checkpoint = Checkpoint::open(model);
  return parse_json(text_of(checkpoint, read_config(checkpoint), layouts), "config.json");
}

TEST(OutputConfig, OneLayoutIsSaidOfTheClassLinear) {
  const Checkpoint checkpoint = Checkpoint::open(golden_model("smollm2"));
  Layouts layouts = uniform_layouts(read_config(checkpoint), {3, 4, false, DType::f16});
  layouts.erase("model.layers.1.mlp.up_proj");
  const Json quantization = config_of(golden_model("smollm2"), layouts)["quantization_config"];
  EXPECT_EQ(quantization["quant_method"], "compressed-tensors");
  EXPECT_EQ(quantization["format"], "pack-quantized");
  EXPECT_EQ(quantization["quantization_status"], "compressed");
  EXPECT_EQ(quantization["ignore"], (Json{"model.layers.1.mlp.up_proj", "lm_head"}));
  ASSERT_EQ(quantization["config_groups"].size(), 1u);
  const Json group = quantization["config_groups"]["group_0"];
  EXPECT_EQ(group["targets"], Json{"Linear"});
  EXPECT_EQ(group["weights"], (Json{{"num_bits", 3},
                                    {"type", "int"},
                                    {"symmetric", false},
                                    {"strategy", "group"},
                                    {"group_size", 4},
                                    {"dynamic", false},
                                    {"actorder", nullptr}}));
}

TEST(OutputConfig, AWholeRowIsAChannelWithoutGroupSize) {
  const Checkpoint checkpoint = Checkpoint::open(golden_model("smollm2"));
  const Json config =
      config_of(golden_model("smollm2"), uniform_layouts(read_config(checkpoint), {4, 0, true}));
  const Json weights = config["quantization_config"]["config_groups"]["group_0"]["weights"];
  EXPECT_EQ(weights["strategy"], "channel");
  EXPECT_EQ(weights["group_size"], nullptr);
}

TEST(OutputConfig, AnExceptionThatNoEngineJoinsIsNamedBesideLinear) {
  const Checkpoint checkpoint = Checkpoint::open(golden_model("smollm2"));
  Layouts layouts = uniform_layouts(read_config(checkpoint), {3, 0, true});
  layouts["model.layers.0.mlp.down_proj"].bits = 4;
  layouts["lm_head"] = {3, 0, true, DType::f32};  // the main layout, but no Linear to vLLM
  const Json groups =
      config_of(golden_model("smollm2"), layouts)["quantization_config"]["config_groups"];
  EXPECT_EQ(groups["group_0"]["targets"], (Json{"Linear", "lm_head"}));
  EXPECT_EQ(groups["group_1"]["targets"], Json{"model.layers.0.mlp.down_proj"});
}

TEST(OutputConfig, AnExceptionAmongJoinedModulesKeepsLinearOut) {
  const Checkpoint checkpoint = Checkpoint::open(golden_model("smollm2"));
  Layouts layouts = uniform_layouts(read_config(checkpoint), {3, 0, true});
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
    layouts["model.layers.0.self_attn." + std::string(name)].bits = 4;
  }
  const Json quantization = config_of(golden_model("smollm2"), layouts)["quantization_config"];
  for (const Json& group : quantization["config_groups"]) {
    for (const Json& target : group["targets"]) EXPECT_NE(target, "Linear");
  }
  EXPECT_EQ(quantization["config_groups"]["group_1"]["targets"].size(), 3u);
}

TEST(OutputConfig, WhatItSaysIsWhatTheReaderUnderstands) {
  const Checkpoint checkpoint = Checkpoint::open(golden_model("smollm2"));
  Layouts layouts = uniform_layouts(read_config(checkpoint), {3, 4, false, DType::f16});
  int i = 0;
  for (auto& [module, layout] : layouts) layout.bits = 2 + ++i % 7, layout.symmetric = i % 2 == 0;
  layouts.erase("model.layers.0.mlp.gate_proj");
  const std::string text = text_of(checkpoint, read_config(checkpoint), layouts);
  const auto packed = PackedModules::from_config(text, "config.json");
  for (const std::string& module : linear_modules(read_config(checkpoint))) {
    const PackedModule* grid = packed.find(module);
    const auto layout = layouts.find(module);
    ASSERT_EQ(grid != nullptr, layout != layouts.end()) << module;
    if (!grid) continue;
    EXPECT_EQ(*grid,
              (PackedModule{PackedGrid{layout->second.bits, layout->second.group, layout->second.symmetric}}));
  }
}

TEST(OutputConfig, AHuggingFaceSourcesOtherKeysStayAndKeepTheirOrder) {
  const std::string source = read_text_file(golden_model("llama31") + "/config.json");
  const Checkpoint checkpoint = Checkpoint::open(golden_model("llama31"));
  const std::string text =
      text_of(checkpoint, read_config(checkpoint), {{"lm_head", {4, 0, true}}});
  auto before = nlohmann::ordered_json::parse(source), after = nlohmann::ordered_json::parse(text);
  EXPECT_EQ(after["tie_word_embeddings"], false);
  after.erase("quantization_config");
  EXPECT_EQ(after.dump(), before.dump());
}

TEST(OutputConfig, AGgufsModelIsReadBackAsTheSameModel) {
  for (const std::string name :
       {"llama2", "llama-bias", "llama-linear", "qwen2", "qwen3", "smollm2", "smollm3"}) {
    const Checkpoint checkpoint = Checkpoint::open(golden_gguf(name));
    ModelConfig expected = read_config(checkpoint);
    const std::string text = text_of(checkpoint, expected, uniform_layouts(expected, {4, 0, true}));
    ModelConfig found = config_from_json(text, "config.json");
    found.dtype = expected.dtype;
    EXPECT_NEAR(found.norm_epsilon, expected.norm_epsilon, 1e-7 * expected.norm_epsilon);
    expected.norm_epsilon = found.norm_epsilon;
    EXPECT_EQ(found, expected) << name;
  }
}

// Divisors as transformers 5.17 computes them for Llama 3.2 (factor 32, head size 64), which is how
// a GGUF states the scaling.
TEST(OutputConfig, RopeDivisorsBecomeTheWordsOfLlama3) {
  const Checkpoint checkpoint = Checkpoint::open(golden_gguf("llama2"));
  ModelConfig config = read_config(checkpoint);
  config.head_dim = 64, config.rope_theta = 500000;
  config.rope_factors.assign(32, 32.0f);
  std::fill_n(config.rope_factors.begin(), 15, 1.0f);
  config.rope_factors[15] = 1.6513291597366333f;
  config.rope_factors[16] = 3.292262554168701f;
  config.rope_factors[17] = 9.666729927062988f;
  const Layouts layouts = uniform_layouts(config, {4, 0, true});
  const Json json = parse_json(text_of(checkpoint, config, layouts), "config.json");
  EXPECT_EQ(json["rope_scaling"], (Json{{"rope_type", "llama3"},
                                        {"factor", 32.0},
                                        {"low_freq_factor", 1.0},
                                        {"high_freq_factor", 4.0},
                                        {"original_max_position_embeddings", 8192}}));
  config.rope_factors[16] = 3.3f;
  const Error error = error_of([&] { text_of(checkpoint, config, layouts); });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_EQ(error.context().tensor, "rope_freqs.weight");
}

}  // namespace
}  // namespace neap
