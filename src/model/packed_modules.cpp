#include "model/packed_modules.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <tuple>

#include "io/json.h"
#include "io/names.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::string_view kRegex = "re:";

[[noreturn]] void unsupported(const JsonNode& setting, const std::string& why) {
  throw Error(ErrorCode::unsupported, why,
              {.file = setting.file(),
               .tensor = printable(setting.path()),
               .found = printable(setting.value().dump())});
}

// Python's re.match: from the start, not to the end.
bool matches_regex(const std::string& pattern, const std::string& name, const std::string& file) {
  const auto bad = [&](const char* why) {
    throw Error(ErrorCode::format, why,
                {.file = file, .tensor = "quantization_config", .found = printable(pattern)});
  };
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_ANCHORED | PCRE2_UTF, &error, &offset, nullptr),
      pcre2_code_free);
  if (!code) bad("not a regular expression");
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(code.get(), nullptr), pcre2_match_data_free);
  const int found = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(),
                                0, 0, data.get(), nullptr);
  if (found < 0 && found != PCRE2_ERROR_NOMATCH) bad("a regular expression that does not end");
  return found >= 0;
}

bool matches(const std::string& pattern, const std::string& module, const std::string& file) {
  if (pattern == "Linear") return true;
  if (!pattern.starts_with(kRegex)) return pattern == module;
  return matches_regex(pattern.substr(kRegex.size()), module, file);
}

void expect(const JsonNode& object, const char* key, std::initializer_list<Json> implemented) {
  const auto value = object.find(key);
  if (value &&
      std::find(implemented.begin(), implemented.end(), value->value()) == implemented.end())
    unsupported(*value, "not implemented");
}

std::vector<std::string> read_strings(const std::optional<JsonNode>& list) {
  std::vector<std::string> strings;
  for (std::size_t i = 0; list && i < list->size(); ++i) strings.push_back((*list)[i].string());
  return strings;
}

bool is_float(const JsonNode& arguments) {
  const auto type = arguments.find("type");
  return type && type->value() == "float";
}

// NVFP4 or MXFP4, which their groups tell apart.
BlockScaled read_fp4(const JsonNode& arguments) {
  expect(arguments, "num_bits", {4});
  expect(arguments, "symmetric", {true});
  expect(arguments, "group_size", {16, 32});
  const bool nvfp4 = arguments.at("group_size").value() == 16;
  expect(arguments, "strategy", {nvfp4 ? "tensor_group" : "group"});
  expect(arguments, "scale_dtype", {nvfp4 ? "torch.float8_e4m3fn" : "torch.uint8"});
  return nvfp4 ? BlockScaled::nvfp4 : BlockScaled::mxfp4;
}

PackedGrid read_grid(const JsonNode& weights) {
  expect(weights, "type", {"int"});
  expect(weights, "strategy", {"group", "channel"});
  expect(weights, "actorder", {false, "static", "weight"});  // the others scatter the groups
  PackedGrid grid;
  grid.bits = static_cast<int>(weights.at("num_bits").integer(1, 8));
  const auto symmetric = weights.find("symmetric");
  grid.symmetric = !symmetric || symmetric->boolean();
  const auto group = weights.find("group_size");
  const auto strategy = weights.find("strategy");
  if (!group && !strategy) weights.fail("neither strategy nor group_size is given");
  const bool whole_row = strategy ? strategy->string() == "channel" : group->integer() == -1;
  grid.group = whole_row ? 0 : weights.at("group_size").integer(1, std::int64_t{1} << 31);
  return grid;
}

// Scales from the numbers at hand; NVFP4's global scale alone comes from calibration ("local").
BlockScaledInputs read_inputs(const JsonNode& inputs) {
  expect(inputs, "actorder", {false});
  if (is_float(inputs)) {
    const BlockScaled format = read_fp4(inputs);
    if (format == BlockScaled::mxfp4) inputs.at("scale_dtype");  // without, scales are no powers of two
    expect(inputs, "dynamic", {format == BlockScaled::nvfp4 ? Json("local") : Json(true)});
    return {format, usual_group(format)};
  }
  expect(inputs, "type", {"int"});
  expect(inputs, "num_bits", {4});
  expect(inputs, "symmetric", {true});
  expect(inputs, "strategy", {"group"});
  expect(inputs, "dynamic", {true});
  return {BlockScaled::int4, inputs.at("group_size").integer(1, std::int64_t{1} << 31)};
}

const char* format_name(const PackedModule& module) {
  const auto* fp4 = std::get_if<Fp4Layout>(&module.weights);
  if (!fp4) return "pack-quantized";
  return fp4->format == BlockScaled::nvfp4 ? "nvfp4-pack-quantized" : "mxfp4-pack-quantized";
}

PackedModule read_module(const JsonNode& group) {
  const JsonNode weights = group.at("weights");
  expect(weights, "dynamic", {false});
  PackedModule module;
  if (is_float(weights)) {
    module.weights = Fp4Layout{read_fp4(weights)};
  } else {
    module.weights = read_grid(weights);
  }
  expect(group, "format", {format_name(module)});
  const auto inputs = group.find("input_activations");
  if (inputs) module.inputs = read_inputs(*inputs);
  return module;
}

// `own`: an entry of `dynamic`, whose settings go before the common ones.
GptqGrid read_gptq(const JsonNode& config, const JsonNode& own) {
  const auto setting = [&](const char* key) { return own.find(key) ? own.at(key) : config.at(key); };
  GptqGrid gptq;
  gptq.grid.bits = static_cast<int>(setting("bits").integer(1, 8));
  const std::int64_t group = setting("group_size").integer(-1, std::int64_t{1} << 31);
  gptq.grid.group = group == -1 ? 0 : group;
  gptq.grid.symmetric = setting("sym").boolean();
  expect(own, "desc_act", {false});
  const auto version = config.find("checkpoint_format");
  if (version && version->value() == "gptq_v2") gptq.version = GptqVersion::v2;
  return gptq;
}

}  // namespace

// GPTQModel's configuration. The first pattern of `dynamic` that matches from the start decides: "-:" keeps a module
// dense, "+:" or nothing gives it a grid of its own.
PackedModules PackedModules::from_gptq(std::string_view config_json, const std::string& file) {
  const Json json = parse_json(config_json, file);
  const JsonNode config = JsonNode(json, file).at("quantization_config");
  expect(config, "desc_act", {false});  // the other scatters the groups
  expect(config, "lm_head", {false});
  expect(config, "pack_dtype", {"int32"});
  for (const char* key : {"checkpoint_format", "format"}) expect(config, key, {"gptq", "gptq_v2"});
  PackedModules modules;
  modules.file_ = file;
  modules.ignore_ = {"lm_head"};
  if (const auto dynamic = config.find("dynamic")) {
    const auto ordered = nlohmann::ordered_json::parse(config_json).at("quantization_config").at("dynamic");
    if (!ordered.is_object()) dynamic->fail("has the wrong type", "an object");
    for (const auto& [key, unused] : ordered.items()) {
      const bool dense = key.starts_with("-:");
      Target target{std::string(kRegex) + key.substr(dense || key.starts_with("+:") ? 2 : 0), {}};
      if (!dense) target.module = PackedModule{read_gptq(config, dynamic->at(key))};
      modules.targets_.push_back(std::move(target));
    }
  }
  modules.targets_.push_back({"Linear", PackedModule{read_gptq(config, config)}});
  return modules;
}

PackedModules PackedModules::from_config(std::string_view config_json, const std::string& file) {
  PackedModules modules;
  modules.file_ = file;
  const Json json = parse_json(config_json, file);
  const auto config = JsonNode(json, file).find("quantization_config");
  if (!config) return modules;
  const JsonNode method = config->at("quant_method");
  if (method.value() == "gptq") return from_gptq(config_json, file);
  if (method.value() != "compressed-tensors")
    unsupported(method, "a quantization that is not implemented");
  expect(*config, "quantization_status", {"compressed"});
  expect(*config, "kv_cache_scheme", {});
  expect(*config, "sparsity_config", {Json::object()});
  expect(*config, "transform_config", {Json::object()});

  const JsonNode groups = config->at("config_groups");
  if (!groups.value().is_object()) groups.fail("has the wrong type", "an object");
  for (const auto& [name, unused] : groups.value().items()) {
    const JsonNode group = groups.at(name);
    expect(group, "output_activations", {});
    const PackedModule module = read_module(group);
    expect(*config, "format", {format_name(module), "mixed-precision"});
    for (std::string& target : read_strings(group.at("targets")))
      modules.targets_.push_back({std::move(target), module});
  }
  const auto rank = [](const Target& target) {
    const bool regex = target.pattern.starts_with(kRegex);
    return std::tuple(target.pattern == "Linear", regex, target.pattern);
  };
  std::stable_sort(modules.targets_.begin(), modules.targets_.end(),
                   [&](const Target& a, const Target& b) { return rank(a) < rank(b); });
  modules.ignore_ = read_strings(config->find("ignore"));
  return modules;
}

const PackedModule* PackedModules::find(const std::string& module) const {
  for (const std::string& pattern : ignore_)
    if (matches(pattern, module, file_)) return nullptr;
  for (const Target& target : targets_)
    if (matches(target.pattern, module, file_)) return target.module ? &*target.module : nullptr;
  return nullptr;
}

}  // namespace neap
