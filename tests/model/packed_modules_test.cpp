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
  EXPECT_EQ(*modules.find("model.layers.0.mlp.up_proj"), (PackedGrid{4, 128, true}));
  EXPECT_EQ(*modules.find("model.layers.0.mlp.down_proj"), (PackedGrid{8, 32, false}));
  EXPECT_EQ(*modules.find("model.layers.1.mlp.down_proj"), (PackedGrid{3, 64, true}));
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
  EXPECT_EQ(read(quantization({{"g", group({"Linear"}, whole)}})).find("lm_head")->group, 0);
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
  refused("/quant_method", "gptq", "quantization_config.quant_method");
  refused("/format", "nvfp4-pack-quantized", "quantization_config.format");
  refused("/quantization_status", "frozen", "quantization_status");
  refused("/kv_cache_scheme", {{"num_bits", 8}}, "kv_cache_scheme");
  refused("/config_groups/g/input_activations", {{"num_bits", 8}}, "input_activations");
  refused("/config_groups/g/weights/type", "float", "weights.type");
  refused("/config_groups/g/weights/strategy", "tensor", "weights.strategy");
  refused("/config_groups/g/weights/actorder", "group", "weights.actorder");
  refused("/config_groups/g/weights/dynamic", true, "weights.dynamic");
}

TEST(PackedModules, AnUnendingPatternIsAnErrorNotAHang) {
  const auto modules =
      read(quantization({{"g", group({"re:(?:[a-z._0-9]+)+[A-Z]"}, weights(4, 32, true))}}));
  EXPECT_THROW(modules.find("model.layers.3.self_attn.q_proj.model.layers.3.self_attn.q_proj"),
               Error);
}

}  // namespace
}  // namespace neap
