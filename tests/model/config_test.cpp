#include "model/config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "io/json.h"
#include "neap/error.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

// A config.json with a model's sizes, changed by `patch` (null takes a key away).
std::string config_text(const char* model_type, const char* class_name,
                        const Json& patch = Json::object()) {
  Json json = {{"model_type", model_type}, {"architectures", {class_name}},
               {"hidden_act", "silu"},     {"hidden_size", 64},
               {"intermediate_size", 96},  {"num_hidden_layers", 4},
               {"num_attention_heads", 8}, {"vocab_size", 300},
               {"rms_norm_eps", 1e-5},     {"max_position_embeddings", 512}};
  json.merge_patch(patch);
  return json.dump();
}
std::string llama(const Json& patch = Json::object()) {
  return config_text("llama", "LlamaForCausalLM", patch);
}
ModelConfig read(const std::string& text) { return config_from_json(text, "config.json"); }

// The message of the error of this code that the text gives; fails if there is none.
std::string refusal(const std::string& text, ErrorCode code) {
  try {
    read(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return {};
}
void expect_unsupported(const Json& patch, const std::string& key, const std::string& value) {
  const std::string message = refusal(llama(patch), ErrorCode::unsupported);
  EXPECT_NE(message.find("config.json"), std::string::npos) << message;
  EXPECT_NE(message.find(key), std::string::npos) << message;
  EXPECT_NE(message.find(value), std::string::npos) << message;
}

std::vector<std::int64_t> windows(const ModelConfig& config) {
  std::vector<std::int64_t> found;
  for (const LayerSwitches& layer : config.switches) found.push_back(layer.window);
  return found;
}
std::vector<bool> ropes(const ModelConfig& config) {
  std::vector<bool> found;
  for (const LayerSwitches& layer : config.switches) found.push_back(layer.rope);
  return found;
}

TEST(Config, BothSpellingsOfTransformersMeanTheSame) {
  int models = 0;
  for (const auto& entry : fs::directory_iterator(NEAP_GOLDEN_DIR "/models")) {
    if (!fs::exists(entry.path() / "config.transformers5.json")) continue;
    const auto config = [&](const char* name) {
      return read(read_text_file((entry.path() / name).string()));
    };
    EXPECT_EQ(config("config.json"), config("config.transformers5.json")) << entry.path();
    ++models;
  }
  EXPECT_GE(models, 13);
}

TEST(Config, LlamaTakesItsDefaults) {
  const ModelConfig config = read(llama());
  EXPECT_EQ(config.kv_heads, 8);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_EQ(config.rope_scaling, RopeScaling{});
  EXPECT_FALSE(config.tied_head || config.qkv_bias || config.output_bias || config.mlp_bias ||
               config.qk_norm);
  EXPECT_EQ(config.switches, std::vector<LayerSwitches>(4));
}

TEST(Config, KvHeadsAreHeadsWhenNullAndTheFamilysWhenAbsent) {
  EXPECT_EQ(
      read(config_text("mistral", "MistralForCausalLM", {{"num_attention_heads", 16}})).kv_heads,
      8);
  std::string text = config_text("mistral", "MistralForCausalLM", {{"num_attention_heads", 16}});
  text.insert(1, R"("num_key_value_heads": null, )");
  EXPECT_EQ(read(text).kv_heads, 16);
}

TEST(Config, BiasesFollowTheFamilysRule) {
  const ModelConfig llama_biases = read(llama({{"attention_bias", true}, {"mlp_bias", true}}));
  EXPECT_TRUE(llama_biases.qkv_bias && llama_biases.output_bias && llama_biases.mlp_bias);
  const ModelConfig qwen2 =
      read(config_text("qwen2", "Qwen2ForCausalLM", {{"num_key_value_heads", 4}}));
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.output_bias || qwen2.mlp_bias);
}

TEST(Config, Qwen3HasNormsAndItsOwnHeadSize) {
  const ModelConfig config =
      read(config_text("qwen3", "Qwen3ForCausalLM", {{"num_key_value_heads", 4}}));
  EXPECT_TRUE(config.qk_norm);
  EXPECT_EQ(config.head_dim, 128);
}

TEST(Config, RopeScalingIsReadInEverySpelling) {
  const RopeScaling linear{.kind = RopeScaling::Kind::linear, .factor = 4};
  for (const Json& patch :
       {Json{{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}},
        Json{{"rope_scaling", {{"rope_type", "linear"}, {"factor", 4}}}},
        Json{{"rope_parameters",
              {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 10000}}}}})
    EXPECT_EQ(read(llama(patch)).rope_scaling, linear) << patch;
  const RopeScaling llama3 = read(llama({{"rope_scaling",
                                          {{"rope_type", "llama3"},
                                           {"factor", 8.0},
                                           {"low_freq_factor", 1.0},
                                           {"high_freq_factor", 4.0},
                                           {"original_max_position_embeddings", 256}}}}))
                                 .rope_scaling;
  EXPECT_EQ(llama3.kind, RopeScaling::Kind::llama3);
  EXPECT_EQ(llama3.original_positions, 256);
}

TEST(Config, ThetaInRopeParametersAndOutsideMustAgree) {
  const auto with = [](double inner) {
    return llama({{"rope_theta", 5e5},
                  {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", inner}}}});
  };
  EXPECT_EQ(read(with(5e5)).rope_theta, 5e5);
  EXPECT_NE(refusal(with(1e4), ErrorCode::format).find("rope_theta"), std::string::npos);
}

TEST(Config, MistralSlidesInEveryLayerUnlessNull) {
  const auto mistral = [](const Json& patch) {
    return config_text("mistral", "MistralForCausalLM", patch);
  };
  EXPECT_EQ(windows(read(mistral({{"sliding_window", 32}}))), (std::vector<std::int64_t>(4, 32)));
  EXPECT_EQ(windows(read(mistral(Json::object()))), (std::vector<std::int64_t>(4, 4096)));
  std::string text = mistral(Json::object());
  text.insert(1, R"("sliding_window": null, )");
  EXPECT_EQ(windows(read(text)), (std::vector<std::int64_t>(4, 0)));
}

TEST(Config, Qwen2SlidesFromMaxWindowLayersIfSwitchedOn) {
  const auto qwen2 = [](Json patch) {
    patch["num_key_value_heads"] = 4;
    patch["sliding_window"] = 32;
    return windows(read(config_text("qwen2", "Qwen2ForCausalLM", patch)));
  };
  using List = std::vector<std::int64_t>;
  EXPECT_EQ(qwen2({{"max_window_layers", 3}}), List(4, 0));
  EXPECT_EQ(qwen2({{"max_window_layers", 3}, {"use_sliding_window", true}}), (List{0, 0, 0, 32}));
  const Json types = {"sliding_attention", "full_attention", "full_attention", "full_attention"};
  EXPECT_EQ(qwen2({{"max_window_layers", 3}, {"use_sliding_window", true}, {"layer_types", types}}),
            (List{32, 0, 0, 0}));
}

TEST(Config, SmolLm3LeavesRopeOutByListOrInterval) {
  const auto smollm3 = [](const Json& patch) {
    return read(config_text("smollm3", "SmolLM3ForCausalLM", patch));
  };
  EXPECT_EQ(ropes(smollm3(Json::object())), (std::vector<bool>{true, true, true, false}));
  EXPECT_EQ(ropes(smollm3({{"no_rope_layer_interval", 2}})),
            (std::vector<bool>{true, false, true, false}));
  const ModelConfig listed = smollm3(
      {{"no_rope_layers", {1, 0, 1, 1}}, {"use_sliding_window", true}, {"sliding_window", 16}});
  EXPECT_EQ(ropes(listed), (std::vector<bool>{true, false, true, true}));
  EXPECT_EQ(windows(listed), (std::vector<std::int64_t>{0, 16, 0, 0}));
  EXPECT_TRUE(listed.tied_head);
  EXPECT_EQ(smollm3(Json::object()).rope_theta, 2000000);
}

TEST(Config, WhatWouldChangeTheResultIsRefusedByKeyAndValue) {
  expect_unsupported({{"hidden_act", "gelu"}}, "hidden_act", "gelu");
  expect_unsupported({{"partial_rotary_factor", 0.5}}, "partial_rotary_factor", "0.5");
  expect_unsupported({{"num_local_experts", 8}}, "num_local_experts", "8");
  expect_unsupported({{"sliding_window", 128}}, "sliding_window", "128");
  expect_unsupported({{"no_rope_layers", {1, 1, 1, 0}}}, "no_rope_layers", "0");
  expect_unsupported(
      {{"layer_types",
        {"full_attention", "full_attention", "full_attention", "chunked_attention"}}},
      "layer_types[3]", "chunked_attention");
  for (const char* type : {"yarn", "dynamic", "longrope"})
    expect_unsupported({{"rope_scaling", {{"rope_type", type}, {"factor", 2.0}}}}, "rope_scaling",
                       type);
  expect_unsupported(
      {{"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.25}}}},
      "rope_parameters.partial_rotary_factor", "0.25");
  expect_unsupported({{"model_type", "gemma3"}}, "model_type", "gemma3");
  expect_unsupported({{"architectures", {"LlamaForSequenceClassification"}}}, "architectures",
                     "LlamaForSequenceClassification");
}

TEST(Config, TheSameSettingsAtTheirHarmlessValuesAreAccepted) {
  const ModelConfig plain = read(llama());
  EXPECT_EQ(read(llama({{"pretraining_tp", 1},
                        {"partial_rotary_factor", 1.0},
                        {"num_experts", 0},
                        {"rope_interleaved", false},
                        {"use_cache", true},
                        {"hidden_act", "swish"},
                        {"layer_types", Json(4, "full_attention")}})),
            plain);
}

// SmolLM3-3B says 2: how many machines a training product was split over changes no product.
TEST(Config, PretrainingParallelismChangesNothing) {
  EXPECT_EQ(read(llama({{"pretraining_tp", 2}})), read(llama()));
}

TEST(Config, SizesThatContradictEachOtherAreRefused) {
  for (const Json& patch :
       {Json{{"num_key_value_heads", 3}}, Json{{"num_attention_heads", 7}}, Json{{"head_dim", 7}},
        Json{{"num_hidden_layers", 0}}, Json{{"num_hidden_layers", 1 << 30}},
        Json{{"hidden_size", -64}}, Json{{"hidden_size", 64.5}}, Json{{"vocab_size", "many"}},
        Json{{"rms_norm_eps", -1.0}}, Json{{"rope_theta", 0.0}},
        Json{{"layer_types", {"full_attention"}}}, Json{{"hidden_size", nullptr}},
        Json{{"rope_scaling", {{"type", "linear"}, {"factor", 0.0}}}},
        Json{{"rope_scaling", {{"type", "linear"}}}}})
    refusal(llama(patch), ErrorCode::format);
}

TEST(Config, WhatAFileSaysCannotForgeLinesOfAMessage) {
  for (const Json& patch : {Json{{"rope_scaling", {{"type\nerror:", 1}}}},
                            Json{{"rope_scaling", {{"type", "yarn\n\x1b[31m"}}}},
                            Json{{"hidden_act", "gelu\nerror:"}}}) {
    const std::string message = refusal(llama(patch), ErrorCode::unsupported);
    EXPECT_TRUE(std::all_of(message.begin(), message.end(), [](char c) { return c >= ' '; }))
        << message;
  }
}

TEST(Config, NoJsonIsAFormatErrorAtEveryTruncation) {
  const std::string text = llama({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}});
  for (std::size_t length = 0; length < text.size(); ++length)
    refusal(text.substr(0, length), ErrorCode::format);
}

}  // namespace
}  // namespace neap
