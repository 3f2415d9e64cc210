#include "export/gguf_metadata.h"

#include <algorithm>
#include <filesystem>

#include "model/tokenizer_gguf.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::uint32_t kQuantizationVersion = 2;  // ggml's: scales where they are today

std::uint32_t u32(std::int64_t value) { return static_cast<std::uint32_t>(value); }

// Keys that speak of the source's own file.
bool is_of_the_file(const std::string& key) {
  static constexpr const char* kKeys[] = {"general.file_type", "general.quantization_version", "general.alignment",
                                          "split.no", "split.count", "split.tensors.count"};
  return std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys) ||
         key.starts_with("quantize.imatrix.");
}

void check_switches(const Checkpoint& checkpoint, const ModelConfig& config, const Architecture& family,
                    std::vector<std::string>& notes) {
  bool windows = false;
  for (std::size_t i = 0; i < config.switches.size(); ++i) {
    const LayerSwitches& layer = config.switches[i];
    windows |= layer.window > 0 && layer.window < config.max_positions;
    const bool rope = !family.skips_rope || (i + 1) % 4 != 0;
    if (layer.rope == rope) continue;
    throw Error(ErrorCode::unsupported, "layers without rope that GGUF has no words for",
                {.file = checkpoint.path(), .tensor = "model.layers." + std::to_string(i), .expected = "every fourth layer"});
  }
  if (windows) notes.emplace_back("GGUF of " + std::string(family.gguf) + " has no words for sliding windows: attention sees all positions");
}

// Names that a file could hold, and llama.cpp would refuse it for.
void check_biases(const Checkpoint& checkpoint, const ModelConfig& config, const Architecture& family) {
  if (family.gguf_biases) return;
  for (const auto& [has, tensor] : {std::pair{config.output_bias, "blk.0.attn_output.bias"}, std::pair{config.mlp_bias, "blk.0.ffn_gate.bias"}}) {
    if (!has) continue;
    throw Error(ErrorCode::unsupported, "llama.cpp's " + std::string(family.gguf) + " has no such tensor, and would not load the file",
                {.file = checkpoint.path(), .tensor = tensor});
  }
}

void add_rope(const ModelConfig& config, const std::string& front, GgufMetadata& pairs) {
  pairs.emplace_back(front + "rope.dimension_count", u32(config.head_dim));
  pairs.emplace_back(front + "rope.freq_base", static_cast<float>(config.rope_theta));
  if (config.rope_scaling.kind != RopeScaling::Kind::linear) return;
  pairs.emplace_back(front + "rope.scaling.type", std::string("linear"));
  pairs.emplace_back(front + "rope.scaling.factor", static_cast<float>(config.rope_scaling.factor));
}

GgufMetadata model_metadata(const ModelConfig& config, const Architecture& family, const std::string& name) {
  const std::string front = std::string(family.gguf) + ".";
  GgufMetadata pairs = {{"general.architecture", std::string(family.gguf)},
                        {"general.type", std::string("model")},
                        {"general.name", name},
                        {front + "block_count", u32(config.layers)},
                        {front + "context_length", u32(config.max_positions)},
                        {front + "embedding_length", u32(config.hidden)},
                        {front + "feed_forward_length", u32(config.intermediate)},
                        {front + "attention.head_count", u32(config.heads)},
                        {front + "attention.head_count_kv", u32(config.kv_heads)},
                        {front + "attention.layer_norm_rms_epsilon", static_cast<float>(config.norm_epsilon)},
                        {front + "vocab_size", u32(config.vocabulary)}};
  add_rope(config, front, pairs);
  if (config.head_dim * config.heads != config.hidden) {
    pairs.emplace_back(front + "attention.key_length", u32(config.head_dim));
    pairs.emplace_back(front + "attention.value_length", u32(config.head_dim));
  }
  return pairs;
}

GgufMetadata made_from(const Weights& weights, const std::string& name, std::vector<std::string>& notes) {
  const ModelConfig& config = weights.config();
  const Architecture& family = *architecture_of_family(config.family);
  check_switches(weights.checkpoint(), config, family, notes);
  check_biases(weights.checkpoint(), config, family);
  GgufMetadata pairs = model_metadata(config, family, name);
  if (!std::filesystem::exists(weights.checkpoint().folder() + "/tokenizer.json")) {
    notes.emplace_back("the source has no tokenizer.json, so the output has no tokenizer, and llama.cpp will not load it");
    return pairs;
  }
  GgufMetadata tokenizer = metadata_of(gguf_tokenizer_of(weights.checkpoint(), config.vocabulary));
  std::move(tokenizer.begin(), tokenizer.end(), std::back_inserter(pairs));
  return pairs;
}

}  // namespace

GgufMetadata gguf_metadata(const Weights& weights, GgufMix mix, const std::string& name,
                           std::vector<std::string>& notes) {
  GgufMetadata pairs;
  if (const GgufFile* source = weights.checkpoint().gguf()) {
    std::copy_if(source->metadata().begin(), source->metadata().end(), std::back_inserter(pairs),
                 [](const auto& pair) { return !is_of_the_file(pair.first); });
  } else {
    pairs = made_from(weights, name, notes);
  }
  pairs.emplace_back("general.quantization_version", kQuantizationVersion);
  pairs.emplace_back("general.file_type", static_cast<std::uint32_t>(mix));
  return pairs;
}

}  // namespace neap
