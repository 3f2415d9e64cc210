// compressed-tensors' `pack-quantized` as an OutputFormat. Byte by byte in
// docs/formats/compressed-tensors.md.
#include <algorithm>

#include "codec/pack_quantized.h"
#include "export/dense_tensors.h"
#include "export/output_format.h"
#include "model/architecture.h"
#include "neap/error.h"

namespace neap {
namespace {

using OrderedJson = nlohmann::ordered_json;

// What the configuration says of a layout: the type of the scales is seen in the file.
GroupLayout spoken(GroupLayout layout) {
  layout.scale_type = DType::f32;
  return layout;
}

// Layouts and their modules, the most frequent layout first.
std::vector<std::pair<GroupLayout, std::vector<std::string>>> group_modules(
    const std::vector<std::string>& modules, const WeightLayouts& layers) {
  std::vector<std::pair<GroupLayout, std::vector<std::string>>> groups;
  for (const std::string& module : modules) {
    const auto layer = layers.find(module);
    if (layer == layers.end()) continue;
    const GroupLayout layout = spoken(std::get<GroupLayout>(layer->second));
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

// Only keys that every version of compressed-tensors knows: it refuses others.
OrderedJson weights_of(const GroupLayout& layout) {
  OrderedJson weights = {{"num_bits", layout.bits},
                         {"type", "int"},
                         {"symmetric", layout.symmetric},
                         {"strategy", layout.group == 0 ? "channel" : "group"},
                         {"group_size", nullptr},
                         {"dynamic", false},
                         {"actorder", nullptr}};
  if (layout.group != 0) weights["group_size"] = layout.group;
  return weights;
}

class PackQuantizedFormat final : public OutputFormat {
 public:
  void check(const std::string& module, const WeightLayout& layout,
             const Shape& shape) const override {
    const auto* groups = std::get_if<GroupLayout>(&layout);
    if (!groups) {
      throw Error(ErrorCode::argument,
                  "compressed-tensors' pack-quantized holds integer grids alone",
                  {.tensor = module});
    }
    if (groups->group == 0 || shape[1] % groups->group == 0) return;
    // compressed-tensors' dequantize and its shape of weight_scale both want whole groups.
    throw Error(ErrorCode::argument, "groups of compressed-tensors must divide a module's inputs",
                {.tensor = module,
                 .expected = "a divisor of " + std::to_string(shape[1]),
                 .found = std::to_string(groups->group)});
  }

  std::vector<PartInfo> parts(const WeightLayout& layout, const Shape& shape) const override {
    return pack_quantized_parts(std::get<GroupLayout>(layout), shape[0], shape[1]);
  }

  std::vector<std::vector<std::byte>> encode(const DecidedLayer& layer) const override {
    NEAP_CHECK(!layer.input_scale);
    return encode_pack_quantized(std::get<QuantizedTensor>(layer.weight));
  }

  OrderedJson quantization_config(const ModelConfig& config,
                                  const WeightLayouts& layers) const override;
};

OrderedJson PackQuantizedFormat::quantization_config(const ModelConfig& config,
                                                     const WeightLayouts& layers) const {
  const std::vector<std::string> modules = linear_modules(config);
  const auto groups = group_modules(modules, layers);
  bool linear_class = true;
  for (std::size_t i = 1; i < groups.size(); ++i) {
    const auto& parts = groups[i].second;
    linear_class &= std::none_of(parts.begin(), parts.end(), is_part_of_joint_module);
  }
  OrderedJson config_groups = OrderedJson::object();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    config_groups["group_" + std::to_string(i)] = {
        {"targets", targets_of(groups[i].second, linear_class && i == 0)},
        {"weights", weights_of(groups[i].first)},
        {"input_activations", nullptr},
        {"output_activations", nullptr},
        {"format", "pack-quantized"}};
  }
  OrderedJson ignore = OrderedJson::array();
  for (const std::string& module : modules) {
    if (!layers.contains(module)) ignore.push_back(module);
  }
  return {{"quant_method", "compressed-tensors"},
          {"format", "pack-quantized"},
          {"quantization_status", "compressed"},
          {"config_groups", config_groups},
          {"ignore", ignore},
          {"kv_cache_scheme", nullptr},
          {"global_compression_ratio", nullptr}};
}

}  // namespace

std::unique_ptr<const OutputFormat> make_pack_quantized_format() {
  return std::make_unique<PackQuantizedFormat>();
}

}  // namespace neap
