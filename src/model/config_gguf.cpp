#include <algorithm>
#include <cmath>
#include <string>

#include "io/gguf.h"
#include "io/names.h"
#include "model/architecture.h"
#include "model/config.h"
#include "neap/error.h"

namespace neap {
namespace {

// Metadata under "ARCHITECTURE.", where every key is a setting of the model.
class Settings {
 public:
  Settings(const GgufFile& gguf, std::string architecture)
      : gguf_(gguf), prefix_(std::move(architecture) + ".") {}

  std::int64_t integer(std::string_view key) const { return gguf_.integer(full(key)); }
  std::int64_t integer(std::string_view key, std::int64_t absent) const {
    return gguf_.integer(full(key), absent);
  }
  double number(std::string_view key) const { return gguf_.number(full(key)); }
  double number(std::string_view key, double absent) const {
    return gguf_.number(full(key), absent);
  }
  std::string string(std::string_view key, std::string_view absent) const {
    return gguf_.string(full(key), absent);
  }
  [[noreturn]] void unsupported(std::string_view key, const std::string& why) const {
    const GgufValue* value = gguf_.find(full(key));
    throw Error(
        ErrorCode::unsupported, why,
        {.file = gguf_.path(), .tensor = full(key), .found = value ? describe(*value) : ""});
  }
  // Throws Error(unsupported) for the first setting that neither this file reads nor has a harmless
  // value.
  void refuse_others() const;

 private:
  std::string full(std::string_view key) const { return prefix_ + std::string(key); }

  const GgufFile& gguf_;
  std::string prefix_;
};

void Settings::refuse_others() const {
  static constexpr std::string_view kRead[] = {
      "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
      "attention.head_count", "attention.head_count_kv", "attention.key_length",
      "attention.value_length", "attention.layer_norm_rms_epsilon", "rope.dimension_count",
      "rope.freq_base", "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear",
      // Notes on the training, and on the row order that every llama file has.
      "rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout"};
  static constexpr std::string_view kHarmlessIfZero[] = {"expert_count", "expert_used_count",
                                                         "attention.sliding_window"};
  for (const auto& [key, value] : gguf_.metadata()) {
    if (!key.starts_with(prefix_)) continue;
    const std::string_view name = std::string_view(key).substr(prefix_.size());
    if (std::find(std::begin(kRead), std::end(kRead), name) != std::end(kRead)) continue;
    const bool may_be_zero = std::find(std::begin(kHarmlessIfZero), std::end(kHarmlessIfZero),
                                       name) != std::end(kHarmlessIfZero);
    if (!may_be_zero || integer(name) != 0)
      unsupported(name, "a setting that may change the result and is not implemented");
  }
}

void read_sizes(const Settings& settings, ModelConfig& model) {
  model.layers = settings.integer("block_count");
  model.hidden = settings.integer("embedding_length");
  model.intermediate = settings.integer("feed_forward_length");
  model.max_positions = settings.integer("context_length");
  model.heads = settings.integer("attention.head_count");
  model.kv_heads = settings.integer("attention.head_count_kv", model.heads);
  const std::int64_t even = model.heads > 0 ? model.hidden / model.heads : 0;
  model.head_dim = settings.integer("attention.key_length", even);
  model.norm_epsilon = settings.number("attention.layer_norm_rms_epsilon");
  for (const char* key : {"attention.value_length", "rope.dimension_count"})
    if (settings.integer(key, model.head_dim) != model.head_dim)
      settings.unsupported(
          key, "only the size of a head, " + std::to_string(model.head_dim) + ", is implemented");
}

void read_rope(const Settings& settings, ModelConfig& model) {
  model.rope_theta = settings.number("rope.freq_base", 10000);
  // llama.cpp takes scaling of no given type as linear, and 0 as "not set".
  const std::string type = settings.string("rope.scaling.type", "linear");
  if (type != "none" && type != "linear")
    settings.unsupported("rope.scaling.type",
                         "rope scaling '" + printable(type) + "' is not implemented");
  const double factor =
      settings.number("rope.scaling.factor", settings.number("rope.scale_linear", 1));
  if (type == "none" || factor == 0 || factor == 1) return;
  model.rope_scaling = {.kind = RopeScaling::Kind::linear, .factor = factor};
}

std::vector<float> read_rope_factors(const Checkpoint& checkpoint, std::int64_t head_dim) {
  const TensorInfo* tensor = checkpoint.find("rope_freqs.weight");
  if (!tensor) return {};
  if (tensor->shape != Shape{head_dim / 2})
    throw Error(ErrorCode::format, "wrong shape",
                {.file = tensor->file,
                 .tensor = tensor->name,
                 .expected = to_string(Shape{head_dim / 2}),
                 .found = to_string(tensor->shape)});
  std::vector<float> factors = checkpoint.read(*tensor);
  for (const float factor : factors)
    if (!(factor > 0 && std::isfinite(factor)))
      throw Error(ErrorCode::format, "a rope factor that is not positive",
                  {.file = tensor->file, .tensor = tensor->name, .found = std::to_string(factor)});
  return factors;
}

// llama.cpp has no key for biases: a file has them or not.
bool has_bias(const Checkpoint& checkpoint, BiasRule rule, Role role) {
  if (rule == BiasRule::never || rule == BiasRule::always) return rule == BiasRule::always;
  return checkpoint.find("blk.0." + std::string(role_names(role).gguf) + ".bias") != nullptr;
}

}  // namespace

ModelConfig config_from_gguf(const Checkpoint& checkpoint) {
  const GgufFile& gguf = *checkpoint.gguf();
  const std::string architecture = gguf.string("general.architecture");
  const Architecture* family = architecture_of_gguf(architecture);
  if (!family)
    throw Error(
        ErrorCode::unsupported, "not one of the architectures " + supported_families(),
        {.file = gguf.path(), .tensor = "general.architecture", .found = printable(architecture)});
  const Settings settings(gguf, architecture);
  settings.refuse_others();

  ModelConfig model;
  model.family = family->family;
  read_sizes(settings, model);
  read_rope(settings, model);
  const TensorInfo& embedding = checkpoint.info(std::string(kEmbedding.gguf) + ".weight");
  model.vocabulary = embedding.shape.empty() ? 0 : embedding.shape[0];
  check_config(model, gguf.path());  // before anything is allocated by the number of layers
  model.rope_factors = read_rope_factors(checkpoint, model.head_dim);
  model.qkv_bias = has_bias(checkpoint, family->qkv_bias, Role::q);
  model.output_bias = has_bias(checkpoint, family->output_bias, Role::o);
  model.mlp_bias = has_bias(checkpoint, family->mlp_bias, Role::gate);
  model.qk_norm = family->qk_norm;
  model.tied_head = checkpoint.find(std::string(kHead.gguf) + ".weight") == nullptr;
  model.switches.resize(static_cast<std::size_t>(model.layers));
  for (std::size_t i = 0; i < model.switches.size(); ++i)  // llama.cpp knows no other interval
    model.switches[i].rope = !family->skips_rope || (i + 1) % 4 != 0;
  return model;
}

}  // namespace neap
