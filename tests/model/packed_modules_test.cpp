#include "model/packed_modules.h"

#include <gtest/gtest.h>

#include "io/json.h"
#include "neap/error.h"

namespace neap {
namespace {

Json weights(int bits, std::int64_t group, bool symmetric) {
  return {{"num_bits", bits},    {"type", "int"},       {"symmetric", symmetric},
          {"strategy", "group"}, {"group_size", group}, {"dynamic", false},
          {"actorder", nullptr}, {"observer", "minmax"}};
}
Json group(Json targets, Json weight_arguments) {
  return {{"targets", std::move(targets)},
          {"weights", std::move(weight_arguments)},
          {"input_activations", nullptr},
          {"output_activations", nullptr}};
}
Json quantization(Json groups, Json ignore = Json::array()) {
  return {{"quantization_config",
           {{"quant_method", "compressed-tensors"},
            {"format", "pack-quantized"},
            {"quantization_status", "compressed"},
            {"config_groups", std::move(groups)},
            {"ignore", std::move(ignore)}}}};
}
PackedModules read(const Json& json) {
  return PackedModules::from_config(json.dump(), "config.json");
}

TEST(PackedModules, NothingIsPackedWithoutQuantizationConfig) {
  EXPECT_EQ(read(Json::object()).find("model.layers.0.mlp.up_proj"), nullptr);
}

TEST(PackedModules, ExactNamesComeBeforePatternsAndThoseBeforeLinear) {
  const auto modules = read(
      quantization({{"group_0", group({"Linear"}, weights(4, 128, true))},
                    {"group_1", group({"re:.*down_proj"}, weights(8, 32, false))},
                    {"group_2", group({"model.layers.1.mlp.down_proj"}, weights(3, 64, true))}}));
  EXPECT_EQ(*modules.find("model.layers.0.mlp.up_proj"), (PackedModule{PackedGrid{4, 128, true}}));
  EXPECT_EQ(*modules.find("model.layers.0.mlp.down_proj"), (PackedModule{PackedGrid{8, 32, false}}));
  EXPECT_EQ(*modules.find("model.layers.1.mlp.down_proj"), (PackedModule{PackedGrid{3, 64, true}}));
}

TEST(PackedModules, PatternsMatchFromTheStartButNotToTheEnd) {
  const auto modules = read(
      quantization({{"g", group({"re:model\\.layers\\.1", "re:layers.2"}, weights(4, 32, true))}}));
  EXPECT_NE(modules.find("model.layers.1.mlp.up_proj"), nullptr);
  EXPECT_NE(modules.find("model.layers.11.mlp.up_proj"), nullptr);
  EXPECT_EQ(modules.find("model.layers.2.mlp.up_proj"), nullptr);
}

TEST(PackedModules, IgnoredModulesAreDense) {
  const auto modules = read(
      quantization({{"g", group({"Linear"}, weights(4, 32, true))}}, {"lm_head", "re:.*k_proj"}));
  EXPECT_EQ(modules.find("lm_head"), nullptr);
  EXPECT_EQ(modules.find("model.layers.3.self_attn.k_proj"), nullptr);
  EXPECT_NE(modules.find("model.layers.3.self_attn.q_proj"), nullptr);
}

TEST(PackedModules, ChannelStrategyIsOneGroupPerRow) {
  Json whole = weights(4, 32, true);
  whole["strategy"] = "channel";
  whole["group_size"] = nullptr;
  EXPECT_EQ(read(quantization({{"g", group({"Linear"}, whole)}})).find("lm_head")->weights,
            (decltype(PackedModule::weights)(PackedGrid{4, 0, true})));
}

TEST(PackedModules, WhatIsNotImplementedIsRefusedByKeyAndValue) {
  const auto refused = [](const char* pointer, const Json& value, const char* key) {
    Json json = quantization({{"g", group({"Linear"}, weights(4, 32, true))}});
    json["quantization_config"][Json::json_pointer(pointer)] = value;
    try {
      read(json);
      ADD_FAILURE() << pointer << " accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      EXPECT_NE(std::string(error.what()).find(key), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(value.dump()), std::string::npos) << error.what();
    }
  };
  refused("/quant_method", "awq", "quantization_config.quant_method");
  refused("/format", "nvfp4-pack-quantized", "quantization_config.format");
  refused("/quantization_status", "frozen", "quantization_status");
  refused("/kv_cache_scheme", {{"num_bits", 8}}, "kv_cache_scheme");
  refused("/config_groups/g/input_activations/num_bits", 8, "input_activations.num_bits");
  refused("/config_groups/g/weights/type", "bool", "weights.type");
  refused("/config_groups/g/weights/strategy", "tensor", "weights.strategy");
  refused("/config_groups/g/weights/actorder", "group", "weights.actorder");
  refused("/config_groups/g/weights/dynamic", true, "weights.dynamic");
}

// As compressed-tensors 0.19 writes its presets.
Json floats(bool nvfp4, Json dynamic) {
  return {{"num_bits", 4},
          {"type", "float"},
          {"symmetric", true},
          {"strategy", nvfp4 ? "tensor_group" : "group"},
          {"group_size", nvfp4 ? 16 : 32},
          {"dynamic", std::move(dynamic)},
          {"actorder", nullptr},
          {"scale_dtype", nvfp4 ? "torch.float8_e4m3fn" : "torch.uint8"},
          {"zp_dtype", nullptr},
          {"observer", nullptr}};
}

Json block_scaled(BlockScaled format) {
  const bool int4 = format == BlockScaled::int4, nvfp4 = format == BlockScaled::nvfp4;
  Json its = group({"Linear"}, int4 ? weights(4, 64, true) : floats(nvfp4, false));
  its["input_activations"] = int4 ? weights(4, 64, true) : floats(nvfp4, nvfp4 ? Json("local") : Json(true));
  if (int4) its["input_activations"]["dynamic"] = true;
  Json json = quantization({{"g", its}});
  json["quantization_config"]["format"] = int4 ? "pack-quantized" : nvfp4 ? "nvfp4-pack-quantized" : "mxfp4-pack-quantized";
  return json;
}

TEST(PackedModules, WeightsAndInputsInFourBits) {
  const auto found = [](BlockScaled format) { return *read(block_scaled(format)).find("model.layers.0.mlp.up_proj"); };
  EXPECT_EQ(found(BlockScaled::nvfp4),
            (PackedModule{Fp4Layout{BlockScaled::nvfp4}, BlockScaledInputs{BlockScaled::nvfp4, 16}}));
  EXPECT_EQ(found(BlockScaled::mxfp4),
            (PackedModule{Fp4Layout{BlockScaled::mxfp4}, BlockScaledInputs{BlockScaled::mxfp4, 32}}));
  EXPECT_EQ(found(BlockScaled::int4), (PackedModule{PackedGrid{4, 64, true}, BlockScaledInputs{BlockScaled::int4, 64}}));
  Json weights_only = block_scaled(BlockScaled::nvfp4);
  weights_only["quantization_config"]["config_groups"]["g"]["input_activations"] = nullptr;
  EXPECT_EQ(*read(weights_only).find("lm_head"), (PackedModule{Fp4Layout{BlockScaled::nvfp4}}));
}

TEST(PackedModules, OtherFourBitFormatsAreRefusedByKeyAndValue) {
  const auto refused = [](BlockScaled format, const char* pointer, const Json& value, const char* key) {
    Json json = block_scaled(format);
    json["quantization_config"][Json::json_pointer(pointer)] = value;
    try {
      read(json);
      ADD_FAILURE() << pointer << " accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      EXPECT_NE(std::string(error.what()).find(key), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(value.dump()), std::string::npos) << error.what();
    }
  };
  const std::string weights = "/config_groups/g/weights/", inputs = "/config_groups/g/input_activations/";
  for (const std::string& where : {weights, inputs}) {
    for (const BlockScaled format : {BlockScaled::nvfp4, BlockScaled::mxfp4}) {
      refused(format, (where + "num_bits").c_str(), 8, "num_bits");
      refused(format, (where + "group_size").c_str(), 64, "group_size");
      refused(format, (where + "symmetric").c_str(), false, "symmetric");
      refused(format, (where + "strategy").c_str(), "channel", "strategy");
      refused(format, (where + "scale_dtype").c_str(), "torch.float16", "scale_dtype");
    }
  }
  refused(BlockScaled::nvfp4, (inputs + "dynamic").c_str(), true, "dynamic");
  refused(BlockScaled::mxfp4, (inputs + "dynamic").c_str(), false, "dynamic");
  refused(BlockScaled::int4, (inputs + "dynamic").c_str(), false, "dynamic");
  refused(BlockScaled::int4, (inputs + "num_bits").c_str(), 8, "num_bits");
  refused(BlockScaled::int4, (inputs + "strategy").c_str(), "token", "strategy");
  refused(BlockScaled::int4, (inputs + "symmetric").c_str(), false, "symmetric");
  refused(BlockScaled::nvfp4, "/format", "mxfp4-pack-quantized", "format");
  refused(BlockScaled::mxfp4, "/config_groups/g/format", "pack-quantized", "format");
}

TEST(PackedModules, AnUnendingPatternIsAnErrorNotAHang) {
  const auto modules =
      read(quantization({{"g", group({"re:(?:[a-z._0-9]+)+[A-Z]"}, weights(4, 32, true))}}));
  EXPECT_THROW(modules.find("model.layers.3.self_attn.q_proj.model.layers.3.self_attn.q_proj"),
               Error);
}

Json gptq(Json changes = Json::object()) {
  Json config = {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}, {"sym", true}, {"desc_act", false}};
  config.update(changes);
  return {{"quantization_config", config}};
}

TEST(PackedModules, GptqSaysOneGridForAllButTheHead) {
  const auto modules = read(gptq());
  EXPECT_EQ(*modules.find("model.layers.0.mlp.up_proj"), (PackedModule{GptqGrid{{4, 128, true}, GptqVersion::v1}}));
  EXPECT_EQ(modules.find("lm_head"), nullptr);
  const auto second = read(gptq({{"checkpoint_format", "gptq_v2"}, {"group_size", -1}, {"sym", false}}));
  EXPECT_EQ(*second.find("model.layers.0.mlp.up_proj"), (PackedModule{GptqGrid{{4, 0, false}, GptqVersion::v2}}));
}

TEST(PackedModules, TheFirstPatternOfGptqsDynamicDecides) {
  const std::string text = R"({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": true,
    "dynamic": {"-:.*layers\\.1\\.": {}, "+:.*down": {"bits": 8, "group_size": 32}, ".*layers\\.2\\.": {"sym": false}}}})";
  const auto modules = PackedModules::from_config(text, "config.json");
  EXPECT_EQ(modules.find("model.layers.1.mlp.down_proj"), nullptr);
  EXPECT_EQ(*modules.find("model.layers.2.mlp.down_proj"), (PackedModule{GptqGrid{{8, 32, true}, GptqVersion::v1}}));
  EXPECT_EQ(*modules.find("model.layers.2.mlp.up_proj"), (PackedModule{GptqGrid{{4, 128, false}, GptqVersion::v1}}));
  EXPECT_EQ(*modules.find("model.layers.0.mlp.up_proj"), (PackedModule{GptqGrid{{4, 128, true}, GptqVersion::v1}}));
}

TEST(PackedModules, WhatGptqWouldChangeTheResultByIsRefused) {
  for (const Json& change : {Json{{"desc_act", true}}, Json{{"lm_head", true}}, Json{{"checkpoint_format", "marlin"}},
                             Json{{"pack_dtype", "int16"}}, Json{{"dynamic", {{"+:x", {{"desc_act", true}}}}}}}) {
    EXPECT_THROW(read(gptq(change)), Error) << change;
  }
}

}  // namespace
}  // namespace neap
