#include "quantize/plan.h"

#include <gtest/gtest.h>

#include "neap/error.h"
#include "quantize/pattern.h"

namespace neap {
namespace {

ModelConfig small_config() {
  ModelConfig c;
  c.family = "llama";
  c.layers = 2;
  c.hidden = 192;
  c.intermediate = 256;
  c.vocabulary = 100;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 48;
  c.switches.resize(2);
  return c;
}

GroupLayout grid(const Plan& plan, const std::string& module) { return std::get<GroupLayout>(*plan.find(module)); }

TEST(Pattern, MatchesAsPythonsReMatchDoes) {
  EXPECT_TRUE(Pattern("re:model\\.layers\\.1").matches("model.layers.12.mlp.up_proj"));
  EXPECT_FALSE(Pattern("re:layers").matches("model.layers.1"));
  EXPECT_TRUE(Pattern("Linear").matches("anything"));
  EXPECT_TRUE(Pattern("a.b").matches("a.b"));
  EXPECT_FALSE(Pattern("a.b").matches("axb"));
  EXPECT_THROW(Pattern("re:("), Error);
}

TEST(Plan, ChoosesTheLargestUsualGroupThatDividesAndSaysSo) {
  const Plan plan = make_plan({}, small_config());
  EXPECT_EQ(std::get<GroupLayout>(plan.layout).group, 64);  // 192 = 3 x 64
  EXPECT_FALSE(plan.layout_reason.empty());
  EXPECT_EQ(plan.layers.size(), 14u);
}

TEST(Plan, TheFirstOverrideThatMatchesDecides) {
  Recipe r;
  r.overrides = {parse_override("model.layers.1.mlp.down_proj=bits:8"), parse_override("re:.*down_proj=bits:2,group:32,asym")};
  const Plan plan = make_plan(r, small_config());
  EXPECT_EQ(grid(plan, "model.layers.1.mlp.down_proj").bits, 8);
  EXPECT_EQ(grid(plan, "model.layers.0.mlp.down_proj").bits, 2);
  EXPECT_EQ(grid(plan, "model.layers.0.mlp.down_proj").group, 32);
  EXPECT_FALSE(grid(plan, "model.layers.0.mlp.down_proj").symmetric);
  EXPECT_EQ(grid(plan, "model.layers.0.mlp.up_proj").bits, 4);
}

TEST(Plan, IgnoredLayersAreKept) {
  Recipe r;
  r.ignore = {"re:model\\.layers\\.0\\."};
  const Plan plan = make_plan(r, small_config());
  EXPECT_EQ(plan.find("model.layers.0.self_attn.q_proj"), nullptr);
  EXPECT_EQ(plan.layers.size(), 7u);
}

TEST(Plan, TheHeadIsQuantizedOnlyWhenAsked) {
  Recipe r;
  EXPECT_EQ(make_plan(r, small_config()).find("lm_head"), nullptr);
  r.lm_head_bits = 8;
  EXPECT_EQ(grid(make_plan(r, small_config()), "lm_head").bits, 8);
}

TEST(Plan, RefusesWhatCannotBeStoredOrLoaded) {
  const auto refused = [](auto&& change) {
    Recipe r;
    change(r);
    EXPECT_THROW(make_plan(r, small_config()), Error);
  };
  refused([](Recipe& r) { r.group = 128; });
  refused([](Recipe& r) { r.bits = 9; });
  refused([](Recipe& r) { r.target_mix = 1.5; });
  refused([](Recipe& r) { r.ignore = {"re:nothing"}; });
  refused([](Recipe& r) { r.overrides = {parse_override("re:.*q_proj=bits:8")}; });
  refused([](Recipe& r) { r.ignore = {"re:.*gate_proj"}; });
  refused([](Recipe& r) { r.ignore = {"Linear"}; });
}

TEST(Plan, LobcqHasOneLayoutForAllLayersThatAreNotIgnored) {
  Recipe r;
  r.scheme = Scheme::lobcq;
  r.lobcq.layout = {128, 8, 16};  // which need not divide the inputs
  r.ignore = {"re:.*gate_proj"};  // nor need fused layers be alike
  const Plan plan = make_plan(r, small_config());
  EXPECT_EQ(plan.layers.size(), 12u);
  EXPECT_EQ(std::get<LobcqLayout>(*plan.find("model.layers.1.mlp.up_proj")), r.lobcq.layout);
  EXPECT_EQ(plan.find("lm_head"), nullptr);
}

TEST(Plan, RefusesWhatLobcqHasNoRoomFor) {
  const auto refused = [](auto&& change) {
    Recipe r;
    r.scheme = Scheme::lobcq;
    make_plan(r, small_config());
    change(r);
    EXPECT_THROW(make_plan(r, small_config()), Error);
  };
  refused([](Recipe& r) { r.method = Method::awq; });
  refused([](Recipe& r) { r.method = Method::gptaq; });
  refused([](Recipe& r) { r.lm_head_bits = 8; });
  refused([](Recipe& r) { r.overrides = {parse_override("Linear=bits:8")}; });
  refused([](Recipe& r) { r.lobcq.scales = ScaleChoice::maximum; });
  refused([](Recipe& r) { r.lobcq.layout.block_array = 48; });
  refused([](Recipe& r) { r.lobcq.layout.codebooks = 5; });
}

TEST(Plan, AwqIsNotBalancedOnceMore) {
  Recipe r;
  r.method = Method::awq;
  make_plan(r, small_config());
  r.balance = true;
  EXPECT_THROW(make_plan(r, small_config()), Error);
}

TEST(Plan, BlockScaledFormatsHaveOneLayoutAndTheirRefusals) {
  Recipe r;
  const auto refused = [&](const std::string& words) {
    try {
      make_plan(r, small_config());
      ADD_FAILURE() << "accepted; wanted: " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::argument);
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  };
  r.scheme = Scheme::nvfp4;
  EXPECT_EQ(std::get<Fp4Layout>(*make_plan(r, small_config()).find("model.layers.0.mlp.up_proj")).group(), 16);
  r.scheme = Scheme::mxfp4;
  EXPECT_EQ(std::get<Fp4Layout>(make_plan(r, small_config()).layout).group(), 32);
  r.scheme = Scheme::int4;
  EXPECT_EQ(grid(make_plan(r, small_config()), "model.layers.1.mlp.down_proj"),
            (GroupLayout{.bits = 4, .group = 64, .symmetric = true, .scale_type = DType::bf16}));
  r.block_scaled.group = 32;
  refused("64 or 128");
  r.block_scaled.group = 128;
  refused("divisor of 192");  // hidden = 3 x 64
  r.block_scaled.group = 64;
  for (const Method method : {Method::awq, Method::gptaq}) {
    r.method = method;
    refused("with INT4");
  }
  r.method = Method::rtn;
  r.lm_head_bits = 8;
  refused("INT4 keeps the head");
  r.lm_head_bits = 0;
  r.ignore = {"model.layers.0.self_attn.q_proj"};
  refused("engines fuse it");
}

}  // namespace
}  // namespace neap
