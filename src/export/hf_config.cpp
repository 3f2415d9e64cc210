#include "export/hf_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "export/rope_factors.h"
#include "io/gguf.h"
#include "io/json.h"
#include "model/architecture.h"
#include "neap/error.h"

namespace neap {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string torch_name(DType type) {
  return type == DType::f32 ? "float32" : type == DType::f16 ? "float16" : "bfloat16";
}

// GGUF keeps settings as fp32: the shortest decimal that is that fp32 is what somebody once wrote.
double shortest(double value) {
  const auto single = static_cast<float>(value);
  if (static_cast<double>(single) != value) return value;
  std::array<char, 32> text;
  const auto written = std::to_chars(text.data(), text.data() + text.size(), single);
  double result = value;
  std::from_chars(text.data(), written.ptr, result);
  return result;
}

OrderedJson scaling_json(const RopeScaling& scaling) {
  if (scaling.kind == RopeScaling::Kind::none) return nullptr;
  OrderedJson json = {{"factor", shortest(scaling.factor)}};
  if (scaling.kind == RopeScaling::Kind::linear) {
    json["rope_type"] = json["type"] = "linear";
    return json;
  }
  json["low_freq_factor"] = scaling.low_frequency;
  json["high_freq_factor"] = scaling.high_frequency;
  json["original_max_position_embeddings"] = scaling.original_positions;
  json["rope_type"] = "llama3";
  return json;
}

// A GGUF states llama3 scaling as its divisors. The published models differ in the factor alone,
// which is the largest divisor; the others must follow from it.
RopeScaling scaling_of(const ModelConfig& config, const std::string& file) {
  if (config.rope_factors.empty()) return config.rope_scaling;
  RopeScaling scaling{.kind = RopeScaling::Kind::llama3};
  const std::vector<float>& factors = config.rope_factors;
  scaling.factor = shortest(*std::max_element(factors.begin(), factors.end()));
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const double expected = llama3_divisor(config, scaling, i);
    if (std::abs(factors[i] - expected) <= 1e-5 * expected) continue;
    throw Error(ErrorCode::unsupported, "rope factors that no config.json can state",
                {.file = file,
                 .tensor = "rope_freqs.weight",
                 .expected = std::to_string(expected),
                 .found = std::to_string(factors[i])});
  }
  return scaling;
}

void add_biases(const ModelConfig& config, const Architecture& family, const std::string& file,
                OrderedJson& json) {
  if (family.output_bias == BiasRule::attention_bias_key) {
    if (config.qkv_bias != config.output_bias) {
      throw Error(ErrorCode::unsupported,
                  "biases of q, k, v without one of o, which " + config.family +
                      " has no words for in config.json",
                  {.file = file});
    }
    json["attention_bias"] = config.qkv_bias;
  }
  if (family.mlp_bias == BiasRule::mlp_bias_key) json["mlp_bias"] = config.mlp_bias;
}

void add_switches(const ModelConfig& config, const Architecture& family, OrderedJson& json) {
  NEAP_CHECK(std::none_of(config.switches.begin(), config.switches.end(),
                          [](const LayerSwitches& s) { return s.window != 0; }));  // GGUF: refused
  if (family.window_needs_switch) json["use_sliding_window"] = false;
  if (family.window != WindowRule::never) json["sliding_window"] = nullptr;
  if (!family.skips_rope) return;
  OrderedJson rope = OrderedJson::array();  // named for its zeros
  for (const LayerSwitches& layer : config.switches) rope.push_back(layer.rope ? 1 : 0);
  json["no_rope_layers"] = rope;
}

// Null where the file has none: transformers' defaults are another model's.
void add_special_tokens(const GgufFile& gguf, OrderedJson& json) {
  for (const auto& [key, source] : {std::pair{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                    std::pair{"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                    std::pair{"pad_token_id", "tokenizer.ggml.padding_token_id"}}) {
    json[key] = nullptr;
    if (gguf.has(source)) json[key] = gguf.integer(source);
  }
}

OrderedJson config_from_metadata(const GgufFile& gguf, const ModelConfig& config) {
  const Architecture& family = *architecture_of_family(config.family);
  OrderedJson json = {{"architectures", {family.hf_class}},
                      {"model_type", config.family},
                      {"hidden_act", "silu"},
                      {"hidden_size", config.hidden},
                      {"intermediate_size", config.intermediate},
                      {"num_hidden_layers", config.layers},
                      {"num_attention_heads", config.heads},
                      {"num_key_value_heads", config.kv_heads},
                      {"head_dim", config.head_dim},
                      {"vocab_size", config.vocabulary},
                      {"max_position_embeddings", config.max_positions},
                      {"rms_norm_eps", shortest(config.norm_epsilon)},
                      {"rope_theta", shortest(config.rope_theta)},
                      {"rope_scaling", scaling_json(scaling_of(config, gguf.path()))},
                      {"tie_word_embeddings", config.tied_head},
                      {"torch_dtype", torch_name(config.dtype)}};
  add_biases(config, family, gguf.path(), json);
  add_switches(config, family, json);
  add_special_tokens(gguf, json);
  return json;
}

}  // namespace

double llama3_divisor(const ModelConfig& config, const RopeScaling& scaling, std::size_t i) {
  constexpr double kTurn = 6.283185307179586;
  const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
  const double length = kTurn * std::pow(config.rope_theta, exponent);
  const auto original = static_cast<double>(scaling.original_positions);
  if (length < original / scaling.high_frequency) return 1;
  if (length > original / scaling.low_frequency) return scaling.factor;
  const double smooth = (original / length - scaling.low_frequency) /
                        (scaling.high_frequency - scaling.low_frequency);
  return 1 / ((1 - smooth) / scaling.factor + smooth);
}

std::string output_config(const Checkpoint& checkpoint, const ModelConfig& config,
                          const OutputFormat& format, const WeightLayouts& layers) {
  OrderedJson json;
  if (const GgufFile* gguf = checkpoint.gguf()) {
    json = config_from_metadata(*gguf, config);
  } else {
    json = OrderedJson::parse(checkpoint.config_json());  // checked when the model was opened
    if (!json.contains("torch_dtype") && !json.contains("dtype")) {
      json["torch_dtype"] = torch_name(config.dtype);
    }
  }
  if (layers.contains("lm_head")) json["tie_word_embeddings"] = false;
  json["quantization_config"] = format.quantization_config(config, layers);
  return json.dump(2) + "\n";
}

}  // namespace neap
