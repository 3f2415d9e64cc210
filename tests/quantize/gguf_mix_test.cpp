// Which type each matrix gets, against what llama-quantize said (tests/golden/make_gguf_mixes.py).
#include "export/gguf_mix.h"

#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "io/json.h"
#include "neap/error.h"
#include "quantize/plan.h"
#include "support/expect_error.h"

namespace neap {
namespace {

Json golden() {
  const std::string path = std::string(NEAP_GOLDEN_DIR) + "/gguf_mixes.json";
  return parse_json(read_text_file(path), path);
}

ModelConfig config_of(const Json& shape) {
  ModelConfig config;
  config.family = shape.at("architecture");
  config.layers = shape.at("layers");
  config.hidden = shape.at("hidden");
  config.intermediate = shape.at("intermediate");
  config.heads = shape.at("heads");
  config.kv_heads = shape.at("kv_heads");
  config.head_dim = config.hidden / config.heads;
  config.tied_head = shape.at("tied_head");
  return config;
}

// "Q6_K*2 Q4_K*1": the types of layers 0, 1, 2.
std::vector<std::string> unrolled(const std::string& runs) {
  std::vector<std::string> types;
  std::istringstream words(runs);
  for (std::string word; words >> word;) {
    const std::size_t star = word.find('*');
    types.insert(types.end(), static_cast<std::size_t>(std::stoi(word.substr(star + 1))), word.substr(0, star));
  }
  return types;
}

// "F16", which the golden files have, is what stays as it is.
std::string planned(const Plan& plan, const std::string& module) {
  const auto rounded = plan.rounded.find(module);
  if (rounded != plan.rounded.end()) return std::string(name_of(rounded->second.type));
  const WeightLayout* layout = plan.find(module);
  return layout ? std::string(name_of(std::get<GgufLayout>(*layout).type)) : "F16";
}

std::string module_of(const std::string& role, std::size_t layer) {
  if (role == "embedding") return "model.embed_tokens";
  if (role == "head") return "lm_head";
  const bool mlp = role == "gate" || role == "up" || role == "down";
  return "model.layers." + std::to_string(layer) + (mlp ? ".mlp." : ".self_attn.") + role + "_proj";
}

TEST(GgufMix, EveryMatrixHasTheTypeThatLlamaQuantizeGivesIt) {
  int compared = 0;
  const Json shapes = golden();
  for (const auto& [name, shape] : shapes.items()) {
    const ModelConfig config = config_of(shape);
    for (const auto& [mix, with] : shape.at("types").items()) {
      for (const auto& [calibration, roles] : with.items()) {
        Recipe recipe;
        recipe.scheme = Scheme::gguf;
        recipe.gguf = {.mix = gguf_mix_from_name(mix), .pure = false, .allow_fallback = true};
        recipe.method = calibration == "plain" ? Method::rtn : Method::ojbkq;
        if (name == "rows of 40") {
          EXPECT_ERROR(make_plan(recipe, config), ErrorCode::argument, "every layer is ignored");
          continue;
        }
        const Plan plan = make_plan(recipe, config);
        for (const auto& [role, runs] : roles.items()) {
          const std::vector<std::string> types = unrolled(runs);
          for (std::size_t layer = 0; layer < types.size(); ++layer) {
            EXPECT_EQ(planned(plan, module_of(role, layer)), types[layer]) << name << ", " << mix << ", " << calibration << ": " << role << " of layer " << layer;
            ++compared;
          }
        }
      }
    }
  }
  EXPECT_GT(compared, 60000);
}

TEST(GgufMix, PureMeansOneTypeForAllThatCanHoldIt) {
  const ModelConfig config = config_of(golden().at("values shared by four"));
  Recipe recipe;
  recipe.scheme = Scheme::gguf;
  recipe.gguf = {.mix = GgufMix::q2_k, .pure = true, .allow_fallback = false};
  const Plan plan = make_plan(recipe, config);
  for (const auto& [module, layout] : plan.layers) EXPECT_EQ(std::get<GgufLayout>(layout).type, DType::q2_k) << module;
  EXPECT_EQ(plan.layers.size(), 30u * 7);
  EXPECT_EQ(plan.rounded.at("model.embed_tokens").type, DType::q2_k);
}

// llama-quantize makes none of dense models: its MXFP4_MOE has Q8_0 beside the experts.
TEST(GgufMix, FourBitFloatsLeaveEmbeddingAndHeadInQ8_0) {
  const ModelConfig config = config_of(golden().at("values shared by four"));
  for (const GgufMix mix : {GgufMix::mxfp4, GgufMix::nvfp4}) {
    Recipe recipe;
    recipe.scheme = Scheme::gguf;
    recipe.gguf = {.mix = mix, .pure = false, .allow_fallback = false};
    const Plan plan = make_plan(recipe, config);
    for (const auto& [module, layout] : plan.layers) EXPECT_EQ(std::get<GgufLayout>(layout).type, base_type(mix)) << module;
    EXPECT_FALSE(plan.rounded.empty());
    for (const auto& [module, layout] : plan.rounded) EXPECT_EQ(layout.type, DType::q8_0) << module;
  }
}

TEST(GgufMix, AnIgnoredEmbeddingIsLeftAsItIs) {
  const ModelConfig config = config_of(golden().at("70B"));
  Recipe recipe;
  recipe.scheme = Scheme::gguf;
  recipe.ignore = {"model.embed_tokens", "lm_head"};
  EXPECT_TRUE(make_plan(recipe, config).rounded.empty());
}

}  // namespace
}  // namespace neap
