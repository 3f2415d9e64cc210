#include <algorithm>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/names.h"
#include "model/architecture.h"
#include "model/config.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::int64_t kMaxSize = std::int64_t{1} << 31;

[[noreturn]] void unsupported(const JsonNode& setting, const std::string& why) {
  throw Error(ErrorCode::unsupported, why,
              {.file = setting.file(),
               .tensor = printable(setting.path()),
               .found = printable(setting.value().dump())});
}

// Members of an object where an absent or null one has a default.
std::int64_t size_or(const JsonNode& object, const char* key, std::int64_t absent) {
  const auto value = object.find(key);
  return value ? value->integer(0, kMaxSize) : absent;
}
double number_or(const JsonNode& object, const char* key, double absent) {
  const auto value = object.find(key);
  return value ? value->number() : absent;
}
bool boolean_or(const JsonNode& object, const char* key, bool absent) {
  const auto value = object.find(key);
  return value ? value->boolean() : absent;
}
bool is_given(const JsonNode& object, const char* key) {
  return object.value().contains(key);
}  // null too

// An array with one element per layer, or nothing.
std::optional<JsonNode> per_layer(const JsonNode& object, const char* key, std::int64_t layers) {
  auto list = object.find(key);
  if (list && list->size() != static_cast<std::size_t>(layers))
    list->fail("does not fit num_hidden_layers", std::to_string(layers) + " elements");
  return list;
}

// Settings that some relative of Llama has and that nothing here implements, with the values that
// mean the ordinary thing. Null is always one of those.
struct Refused {
  const char* key;
  std::vector<Json> harmless;
};

void refuse_settings(const JsonNode& config) {
  static const Refused kRefused[] = {
      {"hidden_act", {"silu", "swish"}},
      {"partial_rotary_factor", {1}},
      {"rotary_pct", {1}},
      {"rope_interleaved", {false}},
      {"use_mrope", {false}},
      {"alibi", {false}},
      {"num_experts", {0}},
      {"num_local_experts", {0}},
      {"n_routed_experts", {0}},
      {"num_experts_per_tok", {0}},
      {"moe_intermediate_size", {0}},
      {"num_nextn_predict_layers", {0}},
      {"attention_chunk_size", {0}},
      {"attn_logit_softcapping", {0}},
      {"final_logit_softcapping", {0}},
      {"logit_scale", {1}},
      {"logits_scaling", {1}},
      {"embedding_multiplier", {1}},
      {"residual_multiplier", {1}},
      {"attention_multiplier", {}},
      {"query_pre_attn_scalar", {}},
      {"clip_qkv", {}},
      {"use_qk_norm", {false}},
      {"qk_layernorm", {false}},
      {"is_encoder_decoder", {false}},
      {"add_cross_attention", {false}},
      {"text_config", {}},
      {"vision_config", {}},
  };
  for (const auto& [key, harmless] : kRefused) {
    const auto setting = config.find(key);
    if (setting && std::find(harmless.begin(), harmless.end(), setting->value()) == harmless.end())
      unsupported(*setting, "a setting that would change the result and is not implemented");
  }
}

const Architecture& read_family(const JsonNode& config) {
  const JsonNode type = config.at("model_type");
  const Architecture* family = architecture_of_family(type.string());
  if (!family) unsupported(type, "not one of the architectures " + supported_families());
  const auto classes = config.find("architectures");
  if (classes && classes->value() != Json::array({family->hf_class}))
    unsupported(*classes, "not the language model of this model_type");
  return *family;
}

void read_sizes(const JsonNode& config, const Architecture& family, ModelConfig& model) {
  const auto size = [&](const char* key) { return config.at(key).integer(1, kMaxSize); };
  model.layers = size("num_hidden_layers");
  model.hidden = size("hidden_size");
  model.intermediate = size("intermediate_size");
  model.vocabulary = size("vocab_size");
  model.heads = size("num_attention_heads");
  // Null means as many as heads in every family; only an absent key takes the family's default.
  const bool family_kv_heads =
      !is_given(config, "num_key_value_heads") && family.default_kv_heads > 0;
  model.kv_heads = size_or(config, "num_key_value_heads",
                           family_kv_heads ? family.default_kv_heads : model.heads);
  const std::int64_t head_dim = family.default_head_dim;
  if (!config.find("head_dim") && head_dim == 0 && model.hidden % model.heads != 0)
    config.at("num_attention_heads").fail("without head_dim", "a divisor of hidden_size");
  model.head_dim =
      size_or(config, "head_dim", head_dim > 0 ? head_dim : model.hidden / model.heads);
  model.max_positions = size_or(config, "max_position_embeddings", 2048);
  model.norm_epsilon = number_or(config, "rms_norm_eps", 1e-6);
}

void read_scaling(const JsonNode& rope, ModelConfig& model) {
  auto type = rope.find("rope_type");
  if (!type) type = rope.find("type");
  if (!type || type->string() == "default") return;
  RopeScaling& scaling = model.rope_scaling;
  if (type->string() == "linear") {
    scaling.kind = RopeScaling::Kind::linear;
  } else if (type->string() == "llama3") {
    scaling.kind = RopeScaling::Kind::llama3;
    scaling.low_frequency = rope.at("low_freq_factor").number();
    scaling.high_frequency = rope.at("high_freq_factor").number();
    scaling.original_positions =
        size_or(rope, "original_max_position_embeddings", model.max_positions);
  } else {
    unsupported(*type, "a rope scaling that is not implemented");
  }
  scaling.factor = rope.at("factor").number();
}

// Transformers 5 has all of it in rope_parameters; before, rope_theta stood outside of
// rope_scaling.
void read_rope(const JsonNode& config, const Architecture& family, ModelConfig& model) {
  model.rope_theta = number_or(config, "rope_theta", family.default_rope_theta);
  auto rope = config.find("rope_scaling");
  if (!rope || rope->value().empty()) rope = config.find("rope_parameters");
  if (!rope) return;

  static constexpr std::string_view kKnown[] = {"rope_type",
                                                "type",
                                                "rope_theta",
                                                "factor",
                                                "low_freq_factor",
                                                "high_freq_factor",
                                                "original_max_position_embeddings"};
  if (!rope->value().is_object()) rope->fail("has the wrong type", "an object");
  for (const auto& [key, value] : rope->value().items()) {
    const bool all_dimensions = key == "partial_rotary_factor" && value == 1;
    const bool known = std::find(std::begin(kKnown), std::end(kKnown), key) != std::end(kKnown);
    if (!known && !all_dimensions && !value.is_null())
      unsupported(rope->at(key), "a rope setting that is not implemented");
  }
  const double theta = number_or(*rope, "rope_theta", model.rope_theta);
  if (config.find("rope_theta") && theta != model.rope_theta)
    config.at("rope_theta").fail("contradicts " + rope->path(), std::to_string(theta));
  model.rope_theta = theta;
  read_scaling(*rope, model);
}

void read_rope_switches(const JsonNode& config, const Architecture& family, ModelConfig& model) {
  if (!family.skips_rope) {
    if (const auto list = config.find("no_rope_layers"))
      unsupported(*list, "layers without rope are no part of " + model.family);
    return;
  }
  const auto step = config.find("no_rope_layer_interval");
  const std::int64_t interval = step ? step->integer(1, kMaxSize) : 4;
  const auto list = per_layer(config, "no_rope_layers", model.layers);  // named for its zeros
  for (std::size_t i = 0; i < model.switches.size(); ++i)
    model.switches[i].rope =
        list ? (*list)[i].integer(0, 1) == 1 : (static_cast<std::int64_t>(i) + 1) % interval != 0;
}

// Width of the window in the layers that slide; 0: none does.
std::int64_t read_window(const JsonNode& config, const Architecture& family) {
  const bool given = is_given(config, "sliding_window");
  const std::int64_t window = size_or(config, "sliding_window", given ? 0 : family.default_window);
  if (!boolean_or(config, "use_sliding_window", !family.window_needs_switch)) return 0;
  if (window > 0 && family.window == WindowRule::never)
    unsupported(config.at("sliding_window"), "no part of " + std::string(family.family));
  return window;
}

bool slides_by_rule(WindowRule rule, bool rope, std::int64_t layer,
                    std::int64_t max_window_layers) {
  switch (rule) {
    case WindowRule::never:
      return false;
    case WindowRule::every_layer:
      return true;
    case WindowRule::from_max_window_layers:
      return layer >= max_window_layers;
    case WindowRule::layers_without_rope:
      return !rope;
  }
  return false;
}

bool slides_by_type(const JsonNode& type) {
  if (type.string() == "sliding_attention") return true;
  if (type.string() == "full_attention") return false;
  unsupported(type, "a kind of attention that is not implemented");
}

void read_window_switches(const JsonNode& config, const Architecture& family, ModelConfig& model) {
  const std::int64_t window = read_window(config, family);
  const std::int64_t max_window_layers = size_or(config, "max_window_layers", 28);
  const auto types = per_layer(config, "layer_types", model.layers);
  for (std::size_t i = 0; i < model.switches.size(); ++i) {
    LayerSwitches& layer = model.switches[i];
    const auto index = static_cast<std::int64_t>(i);
    bool slides = window > 0 && slides_by_rule(family.window, layer.rope, index, max_window_layers);
    if (types) {
      const bool listed = slides_by_type((*types)[i]);
      if (listed && window == 0) (*types)[i].fail("but no sliding window is set");
      if (listed != slides && !family.layer_types_rule)
        unsupported((*types)[i], "a choice of layers that is no part of " + model.family);
      slides = listed;
    }
    layer.window = slides ? window : 0;
  }
}

bool has_bias(const JsonNode& config, BiasRule rule) {
  switch (rule) {
    case BiasRule::never:
      return false;
    case BiasRule::always:
      return true;
    case BiasRule::attention_bias_key:
      return boolean_or(config, "attention_bias", false);
    case BiasRule::mlp_bias_key:
      return boolean_or(config, "mlp_bias", false);
  }
  return false;
}

}  // namespace

ModelConfig config_from_json(std::string_view text, const std::string& file) {
  const Json json = parse_json(text, file);
  const JsonNode config(json, file);
  const Architecture& family = read_family(config);
  refuse_settings(config);

  ModelConfig model;
  model.family = family.family;
  read_sizes(config, family, model);
  read_rope(config, family, model);
  model.qkv_bias = has_bias(config, family.qkv_bias);
  model.output_bias = has_bias(config, family.output_bias);
  model.mlp_bias = has_bias(config, family.mlp_bias);
  model.qk_norm = family.qk_norm;
  model.tied_head = boolean_or(config, "tie_word_embeddings", family.default_tied_head);
  check_config(model, file);  // before anything is allocated by the number of layers
  model.switches.resize(static_cast<std::size_t>(model.layers));
  read_rope_switches(config, family, model);
  read_window_switches(config, family, model);
  return model;
}

}  // namespace neap
