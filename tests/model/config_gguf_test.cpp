#include <gtest/gtest.h>

#include "model/config.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

using test::GgufBuilder;

constexpr std::uint32_t kF32Type = 0, kF16Type = 1;

// What every file has, but for the key `without`.
GgufBuilder metadata(const std::string& architecture, const std::string& without = {}) {
  GgufBuilder builder;
  builder.string("general.architecture", architecture);
  const auto add = [&](const std::string& key, std::uint32_t value) {
    if (key != without) builder.scalar(architecture + "." + key, test::kU32, value);
  };
  add("block_count", 4);
  add("context_length", 512);
  add("embedding_length", 64);
  add("feed_forward_length", 96);
  add("attention.head_count", 8);
  if (without != "attention.layer_norm_rms_epsilon")
    builder.scalar(architecture + ".attention.layer_norm_rms_epsilon", test::kF32, 0.5f);
  return builder;
}

ModelConfig read(GgufBuilder builder) {
  if (builder.build().find("token_embd") == std::string::npos)
    builder.tensor("token_embd.weight", {64, 300}, kF16Type, 64 * 300 * 2);
  const test::TempFolder folder;
  return read_config(Checkpoint::open(folder.write("model.gguf", builder.build())));
}

TEST(ConfigGguf, TakesItsDefaults) {
  const ModelConfig config = read(metadata("llama"));
  EXPECT_EQ(config.family, "llama");
  EXPECT_EQ(config.layers, 4);
  EXPECT_EQ(config.intermediate, 96);
  EXPECT_EQ(config.vocabulary, 300);
  EXPECT_EQ(config.kv_heads, 8);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.norm_epsilon, 0.5);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_EQ(config.rope_scaling, RopeScaling{});
  EXPECT_EQ(config.dtype, DType::f16);
  EXPECT_TRUE(config.tied_head);
  EXPECT_FALSE(config.qkv_bias || config.output_bias || config.mlp_bias || config.qk_norm);
  EXPECT_EQ(config.switches, std::vector<LayerSwitches>(4));
}

TEST(ConfigGguf, TensorsTellOfBiasesHeadsAndRopeFactors) {
  auto builder = metadata("llama");
  builder.tensor("token_embd.weight", {64, 300}, kF16Type, 64 * 300 * 2)
      .tensor("output.weight", {64, 300}, kF16Type, 64 * 300 * 2)
      .tensor("blk.0.attn_q.bias", {64}, kF32Type, 256)
      .tensor("rope_freqs.weight", {4}, kF32Type, 16);
  const ModelConfig config = read(builder);
  EXPECT_FALSE(config.tied_head);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.output_bias);
  EXPECT_EQ(config.rope_factors.size(), 4u);
}

TEST(ConfigGguf, FamiliesDifferByTheirTableRow) {
  EXPECT_TRUE(read(metadata("qwen2")).qkv_bias);
  EXPECT_TRUE(read(metadata("qwen3")).qk_norm);
  std::vector<bool> ropes;
  for (const LayerSwitches& layer : read(metadata("smollm3")).switches) ropes.push_back(layer.rope);
  EXPECT_EQ(ropes, (std::vector<bool>{true, true, true, false}));
}

TEST(ConfigGguf, HeadSizeMayDifferFromHiddenOverHeads) {
  auto builder = metadata("qwen3");
  builder.scalar("qwen3.attention.key_length", test::kU32, 24u)
      .scalar("qwen3.attention.value_length", test::kU32, 24u);
  EXPECT_EQ(read(builder).head_dim, 24);
  builder.scalar("qwen3.rope.dimension_count", test::kU32, 12u);
  EXPECT_ERROR(read(builder), ErrorCode::unsupported, "qwen3.rope.dimension_count");
}

TEST(ConfigGguf, LinearRopeScalingIsReadWithAndWithoutItsType) {
  const RopeScaling linear{.kind = RopeScaling::Kind::linear, .factor = 4};
  auto untyped = metadata("llama"), typed = metadata("llama"), off = metadata("llama");
  untyped.scalar("llama.rope.scaling.factor", test::kF32, 4.0f);
  EXPECT_EQ(read(untyped).rope_scaling, linear);
  typed.string("llama.rope.scaling.type", "linear")
      .scalar("llama.rope.scaling.factor", test::kF32, 4.0f);
  EXPECT_EQ(read(typed).rope_scaling, linear);
  off.string("llama.rope.scaling.type", "none")
      .scalar("llama.rope.scaling.factor", test::kF32, 4.0f);
  EXPECT_EQ(read(off).rope_scaling, RopeScaling{});
}

TEST(ConfigGguf, SettingsThatAreNotImplementedAreRefusedByKey) {
  EXPECT_ERROR(read(metadata("gemma3")), ErrorCode::unsupported, "gemma3");
  EXPECT_ERROR(read(metadata("llama").string("llama.rope.scaling.type", "yarn")),
               ErrorCode::unsupported, "yarn");
  for (const char* key : {"llama.expert_count", "llama.attention.sliding_window"}) {
    EXPECT_EQ(read(metadata("llama").scalar(key, test::kU32, 0u)), read(metadata("llama"))) << key;
    EXPECT_ERROR(read(metadata("llama").scalar(key, test::kU32, 8u)), ErrorCode::unsupported, key);
  }
  EXPECT_ERROR(read(metadata("llama").scalar("llama.logit_scale", test::kF32, 0.5f)),
               ErrorCode::unsupported, "llama.logit_scale");
}

TEST(ConfigGguf, EveryMissingKeyIsNamed) {
  for (const char* key :
       {"block_count", "context_length", "embedding_length", "feed_forward_length",
        "attention.head_count", "attention.layer_norm_rms_epsilon"})
    EXPECT_ERROR(read(metadata("llama", key)), ErrorCode::format, std::string("llama.") + key);
}

TEST(ConfigGguf, SizesOutOfRangeAreFormatErrors) {
  for (const char* key : {"block_count", "embedding_length", "attention.head_count"})
    for (const std::uint32_t value : {0u, 0x7fffffffu})
      EXPECT_ERROR(
          read(metadata("llama", key).scalar(std::string("llama.") + key, test::kU32, value)),
          ErrorCode::format, "sizes make no sense");
  auto builder = metadata("llama");
  builder.scalar("llama.attention.head_count_kv", test::kU32, 3u);
  EXPECT_ERROR(read(builder), ErrorCode::format, "key-value heads");
}

TEST(ConfigGguf, RopeFactorsOfTheWrongNumberAreRefused) {
  auto builder = metadata("llama");
  builder.tensor("token_embd.weight", {64, 300}, kF16Type, 64 * 300 * 2)
      .tensor("rope_freqs.weight", {8}, kF32Type, 32);
  EXPECT_ERROR(read(builder), ErrorCode::format, "rope_freqs.weight");
}

}  // namespace
}  // namespace neap
