#include "export/engines.h"

#include "export/support.h"

namespace neap {
namespace {

// Sizes that suit every kernel.
ModelConfig roomy() {
  ModelConfig config;
  config.layers = 2, config.hidden = 512, config.intermediate = 1024, config.vocabulary = 1024;
  config.heads = 8, config.kv_heads = 4, config.head_dim = 64;
  return config;
}

EngineVerdict verdict(const std::string& engine, const ModelConfig& config,
                      const Layouts& layouts) {
  for (const EngineVerdict& v : engines_for(config, layouts)) {
    if (v.name == engine) return v;
  }
  ADD_FAILURE() << engine;
  return {};
}

bool loads(const std::string& engine, const GroupLayout& layout) {
  return verdict(engine, roomy(), uniform_layouts(roomy(), layout)).loads;
}

TEST(Engines, FourBitsSymmetricLoadEverywhere) {
  for (const auto& v : engines_for(roomy(), uniform_layouts(roomy(), {4, 128, true}))) {
    EXPECT_TRUE(v.loads) << v.name << ": " << v.reason;
  }
}

TEST(Engines, ThreeBitsAsymmetricAreNotForVllmAndTheReasonNamesAModule) {
  const Layouts layouts = uniform_layouts(roomy(), {3, 64, false});
  const EngineVerdict v = verdict("vLLM", roomy(), layouts);
  EXPECT_FALSE(v.loads);
  EXPECT_NE(v.reason.find("model.layers.0.mlp.down_proj: 3 bits"), std::string::npos) << v.reason;
  EXPECT_TRUE(loads("vLLM", {3, 64, true}));
  EXPECT_TRUE(loads("vLLM", {4, 64, false}));
  EXPECT_TRUE(loads("transformers", {3, 64, false}));
  EXPECT_TRUE(loads("Neap", {3, 64, false}));
}

TEST(Engines, LlamaCppReadsGroupsInThePackingThatNeverChanged) {
  EXPECT_TRUE(loads("llama.cpp", {2, 64, false}));
  EXPECT_FALSE(loads("llama.cpp", {3, 64, true}));
  EXPECT_FALSE(loads("llama.cpp", {4, 0, true}));
  Layouts mixed = uniform_layouts(roomy(), {4, 64, true});
  mixed["model.layers.1.mlp.down_proj"].bits = 8;
  EXPECT_FALSE(verdict("llama.cpp", roomy(), mixed).loads);
  EXPECT_TRUE(verdict("vLLM", roomy(), mixed).loads);
}

TEST(Engines, ModulesThatAreJoinedMustBeAlike) {
  Layouts layouts = uniform_layouts(roomy(), {4, 64, true});
  layouts["model.layers.1.self_attn.k_proj"].bits = 8;
  EXPECT_FALSE(verdict("vLLM", roomy(), layouts).loads);
  EXPECT_NE(verdict("SGLang", roomy(), layouts).reason.find("model.layers.1.self_attn.k_proj"),
            std::string::npos);
  layouts = uniform_layouts(roomy(), {4, 64, true});
  layouts.erase("model.layers.0.mlp.up_proj");
  EXPECT_FALSE(verdict("vLLM", roomy(), layouts).loads);
  layouts.erase("model.layers.0.mlp.gate_proj");
  EXPECT_TRUE(verdict("vLLM", roomy(), layouts).loads);
}

TEST(Engines, SizesThatNoTileDividesNeedARecentVersion) {
  ModelConfig config = roomy();
  config.hidden = 576;
  const Layouts layouts = uniform_layouts(config, {4, 64, true});
  EXPECT_NE(verdict("vLLM", config, layouts).reason.find("2026"), std::string::npos);
  EXPECT_TRUE(verdict("vLLM", config, layouts).loads);
  EXPECT_FALSE(verdict("SGLang", config, layouts).loads);
}

// Neap and transformers run all of them; what the others lack is said.
TEST(Engines, BlockScaledFormats) {
  for (const BlockScaled format : {BlockScaled::nvfp4, BlockScaled::mxfp4, BlockScaled::int4}) {
    for (const bool inputs : {false, true}) {
      for (const EngineVerdict& v : engines_for(format, inputs)) {
        const bool nvfp4 = format == BlockScaled::nvfp4;
        EXPECT_EQ(v.loads, v.name == "SGLang" ? nvfp4 && inputs : v.name == "llama.cpp" ? nvfp4 : true) << v.name;
        EXPECT_TRUE(v.loads || !v.reason.empty()) << v.name;
      }
    }
  }
}

}  // namespace
}  // namespace neap
