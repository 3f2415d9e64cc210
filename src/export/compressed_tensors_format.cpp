// compressed-tensors' `pack-quantized`, `nvfp4-pack-quantized` and `mxfp4-pack-quantized` as an
// OutputFormat. Byte by byte in docs/formats/compressed-tensors.md and docs/formats/block-scaled.md.
#include <algorithm>
#include <cstring>
#include <set>

#include "codec/fp4_pack.h"
#include "codec/pack_quantized.h"
#include "export/dense_tensors.h"
#include "export/output_format.h"
#include "model/architecture.h"
#include "neap/error.h"

namespace neap {
namespace {

using OrderedJson = nlohmann::ordered_json;

// What the configuration says of a layout: the type of the scales is seen in the file.
WeightLayout spoken(WeightLayout layout) {
  if (auto* grid = std::get_if<GroupLayout>(&layout)) grid->scale_type = DType::f32;
  return layout;
}

// Layouts and their modules, the most frequent layout first.
std::vector<std::pair<WeightLayout, std::vector<std::string>>> group_modules(
    const std::vector<std::string>& modules, const WeightLayouts& layers) {
  std::vector<std::pair<WeightLayout, std::vector<std::string>>> groups;
  for (const std::string& module : modules) {
    const auto layer = layers.find(module);
    if (layer == layers.end()) continue;
    const WeightLayout layout = spoken(layer->second);
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& g) { return g.first == layout; });
    if (group == groups.end()) group = groups.insert(groups.end(), {layout, {}});
    group->second.push_back(module);
  }
  std::stable_sort(groups.begin(), groups.end(),
                   [](const auto& a, const auto& b) { return a.second.size() > b.second.size(); });
  return groups;
}

// vLLM joins q, k, v and gate, up into one module each, and looks for the name of the joint
// module's class ("Linear" is in it) before it looks for the names of its parts: with an exception
// among the parts, "Linear" must not be a target.
bool is_part_of_joint_module(const std::string& module) {
  for (const Role role : {Role::q, Role::k, Role::v, Role::gate, Role::up}) {
    if (module.ends_with(role_names(role).huggingface)) return true;
  }
  return false;
}

OrderedJson targets_of(const std::vector<std::string>& modules, bool linear_class) {
  if (!linear_class) return modules;
  OrderedJson targets = {"Linear"};
  for (const std::string& module : modules) {
    if (module == "lm_head") targets.push_back(module);  // to vLLM a head is no Linear
  }
  return targets;
}

// Only keys that every version of compressed-tensors that has the format knows: it refuses others.
OrderedJson arguments_of(const GroupLayout& layout) {
  OrderedJson arguments = {{"num_bits", layout.bits},
                           {"type", "int"},
                           {"symmetric", layout.symmetric},
                           {"strategy", layout.group == 0 ? "channel" : "group"},
                           {"group_size", nullptr},
                           {"dynamic", false},
                           {"actorder", nullptr}};
  if (layout.group != 0) arguments["group_size"] = layout.group;
  return arguments;
}

OrderedJson arguments_of(const Fp4Layout& layout) {
  const bool nvfp4 = layout.format == BlockScaled::nvfp4;
  return {{"num_bits", 4},
          {"type", "float"},
          {"symmetric", true},
          {"strategy", nvfp4 ? "tensor_group" : "group"},
          {"group_size", layout.group()},
          {"dynamic", false},
          {"scale_dtype", nvfp4 ? "torch.float8_e4m3fn" : "torch.uint8"}};
}

OrderedJson arguments_of(const WeightLayout& layout) {
  const auto* fp4 = std::get_if<Fp4Layout>(&layout);
  return fp4 ? arguments_of(*fp4) : arguments_of(std::get<GroupLayout>(layout));
}

// Scales on the fly; of NVFP4 all but the global one ("local").
OrderedJson arguments_of(const BlockScaledInputs& inputs) {
  OrderedJson arguments = inputs.format == BlockScaled::int4
                              ? arguments_of(GroupLayout{.bits = 4, .group = inputs.group})
                              : arguments_of(Fp4Layout{inputs.format});
  arguments["dynamic"] = inputs.format == BlockScaled::nvfp4 ? OrderedJson("local") : OrderedJson(true);
  return arguments;
}

const char* format_name(const WeightLayout& layout) {
  const auto* fp4 = std::get_if<Fp4Layout>(&layout);
  if (!fp4) return "pack-quantized";
  return fp4->format == BlockScaled::nvfp4 ? "nvfp4-pack-quantized" : "mxfp4-pack-quantized";
}

// Inputs that share a scale in a weight's row; 0: all of them.
std::int64_t group_of(const WeightLayout& layout) {
  const auto* fp4 = std::get_if<Fp4Layout>(&layout);
  return fp4 ? fp4->group() : std::get<GroupLayout>(layout).group;
}

std::vector<std::byte> bytes_of(float value) {
  std::vector<std::byte> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

class CompressedTensorsFormat final : public OutputFormat {
 public:
  explicit CompressedTensorsFormat(std::optional<BlockScaledInputs> inputs) : inputs_(inputs) {}

  void check(const std::string& module, const WeightLayout& layout, const Shape& shape) const override {
    if (std::holds_alternative<LobcqLayout>(layout)) {
      throw Error(ErrorCode::argument, "compressed-tensors has no LO-BCQ", {.tensor = module});
    }
    if (inputs_ && module == "lm_head") {
      throw Error(ErrorCode::argument, "the head's inputs are never rounded", {.tensor = module});
    }
    check_divides(module, group_of(layout), shape);
    if (inputs_) check_divides(module, inputs_->group, shape);
  }

  std::vector<PartInfo> parts(const WeightLayout& layout, const Shape& shape) const override {
    const auto* fp4 = std::get_if<Fp4Layout>(&layout);
    std::vector<PartInfo> parts = fp4 ? fp4_parts(*fp4, shape[0], shape[1])
                                      : pack_quantized_parts(std::get<GroupLayout>(layout), shape[0], shape[1]);
    if (has_input_scales()) parts.push_back({std::string(kInputScale), DType::f32, {1}});
    return parts;
  }

  std::vector<std::vector<std::byte>> encode(const DecidedLayer& layer) const override {
    NEAP_CHECK(layer.input_scale.has_value() == has_input_scales());
    const auto* fp4 = std::get_if<Fp4Tensor>(&layer.weight);
    auto parts = fp4 ? encode_fp4_parts(*fp4) : encode_pack_quantized(std::get<QuantizedTensor>(layer.weight));
    if (layer.input_scale) parts.push_back(bytes_of(*layer.input_scale));
    return parts;
  }

  OrderedJson quantization_config(const ModelConfig& config,
                                  const WeightLayouts& layers) const override;

 private:
  bool has_input_scales() const { return inputs_ && inputs_->format == BlockScaled::nvfp4; }

  // compressed-tensors' dequantize and its shape of weight_scale both want whole groups.
  static void check_divides(const std::string& module, std::int64_t group, const Shape& shape) {
    if (group == 0 || shape[1] % group == 0) return;
    throw Error(ErrorCode::argument, "groups of compressed-tensors must divide a module's inputs",
                {.tensor = module,
                 .expected = "a divisor of " + std::to_string(shape[1]),
                 .found = std::to_string(group)});
  }

  std::optional<BlockScaledInputs> inputs_;  // of all modules, without the global scale
};

OrderedJson CompressedTensorsFormat::quantization_config(const ModelConfig& config,
                                                     const WeightLayouts& layers) const {
  const std::vector<std::string> modules = linear_modules(config);
  const auto groups = group_modules(modules, layers);
  bool linear_class = true;
  for (std::size_t i = 1; i < groups.size(); ++i) {
    const auto& parts = groups[i].second;
    linear_class &= std::none_of(parts.begin(), parts.end(), is_part_of_joint_module);
  }
  OrderedJson config_groups = OrderedJson::object();
  std::set<std::string> formats;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    config_groups["group_" + std::to_string(i)] = {
        {"targets", targets_of(groups[i].second, linear_class && i == 0)},
        {"weights", arguments_of(groups[i].first)},
        {"input_activations", inputs_ ? arguments_of(*inputs_) : OrderedJson(nullptr)},
        {"output_activations", nullptr},
        {"format", format_name(groups[i].first)}};
    formats.insert(format_name(groups[i].first));
  }
  OrderedJson ignore = OrderedJson::array();
  for (const std::string& module : modules) {
    if (!layers.contains(module)) ignore.push_back(module);
  }
  return {{"quant_method", "compressed-tensors"},
          {"format", formats.size() == 1 ? *formats.begin() : "mixed-precision"},
          {"quantization_status", "compressed"},
          {"config_groups", config_groups},
          {"ignore", ignore},
          {"kv_cache_scheme", nullptr},
          {"global_compression_ratio", nullptr}};
}

}  // namespace

std::unique_ptr<const OutputFormat> make_compressed_tensors_format(std::optional<BlockScaledInputs> inputs) {
  return std::make_unique<CompressedTensorsFormat>(inputs);
}

}  // namespace neap
