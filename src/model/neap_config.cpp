#include "model/neap_config.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "io/json.h"
#include "io/names.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::string_view kMethod = "neap", kScheme = "lobcq", kHead = "lm_head";
constexpr int kVersion = 1;
constexpr std::array kInputs = {std::pair{InputScales::none, "none"},
                                std::pair{InputScales::fixed, "static"},
                                std::pair{InputScales::dynamic, "dynamic"}};

void require(const JsonNode& config, const char* key, const Json& value) {
  const JsonNode found = config.at(key);
  if (found.value() == value) return;
  throw Error(ErrorCode::unsupported, "a container that this version of Neap does not know",
              {.file = found.file(),
               .tensor = printable(found.path()),
               .expected = value.dump(),
               .found = printable(found.value().dump())});
}

void refuse_unknown_keys(const JsonNode& config) {
  static const std::set<std::string> kKnown = {"quant_method", "version", "scheme",
                                               "block_array",  "block",   "num_codebooks",
                                               "activations",  "ignore"};
  for (const auto& [key, unused] : config.value().items()) {
    if (kKnown.contains(key)) continue;
    throw Error(ErrorCode::unsupported, "a key that this version of Neap does not know",
                {.file = config.file(), .tensor = printable(config.path() + "." + key)});
  }
}

InputScales inputs_from(const JsonNode& node) {
  for (const auto& [inputs, name] : kInputs) {
    if (node.string() == name) return inputs;
  }
  node.fail("not a way to encode activations", "none, static or dynamic");
}

LobcqLayout layout_from(const JsonNode& config) {
  const auto number = [&](const char* key, const char* allowed, auto is_allowed) {
    const JsonNode node = config.at(key);
    const auto value = static_cast<int>(node.integer(1, 1 << 20));
    if (!is_allowed(value)) node.fail("not a size that LO-BCQ has", allowed);
    return value;
  };
  const auto fits = [](auto set) {
    return [set](int value) {
      LobcqLayout layout;
      set(layout, value);
      return layout.valid();
    };
  };
  LobcqLayout layout;
  layout.block_array = number("block_array", "16, 32, 64 or 128",
                              fits([](LobcqLayout& l, int v) { l.block_array = v; }));
  layout.block = number("block", "2, 4 or 8", fits([](LobcqLayout& l, int v) { l.block = v; }));
  layout.codebooks = number("num_codebooks", "2, 4, 8 or 16",
                            fits([](LobcqLayout& l, int v) { l.codebooks = v; }));
  return layout;
}

}  // namespace

bool NeapConfig::packs(std::string_view module) const {
  return std::find(ignore.begin(), ignore.end(), module) == ignore.end();
}

std::optional<NeapConfig> NeapConfig::from_config(std::string_view config_json,
                                                  const std::string& file) {
  const Json json = parse_json(config_json, file);
  const auto config = JsonNode(json, file).find("quantization_config");
  if (!config) return {};
  const auto method = config->find("quant_method");
  if (!method || method->value() != kMethod) return {};
  require(*config, "version", kVersion);
  require(*config, "scheme", kScheme);
  refuse_unknown_keys(*config);
  NeapConfig result;
  result.layout = layout_from(*config);
  result.inputs = inputs_from(config->at("activations"));
  const JsonNode ignore = config->at("ignore");
  for (std::size_t i = 0; i < ignore.size(); ++i) result.ignore.push_back(ignore[i].string());
  if (result.packs(kHead))
    ignore.fail("the head of a model is never packed in version 1", "lm_head among them");
  return result;
}

nlohmann::ordered_json NeapConfig::to_json() const {
  const auto name = std::find_if(kInputs.begin(), kInputs.end(),
                                 [&](const auto& i) { return i.first == inputs; });
  return {{"quant_method", kMethod},     {"version", kVersion},
          {"scheme", kScheme},           {"block_array", layout.block_array},
          {"block", layout.block},       {"num_codebooks", layout.codebooks},
          {"activations", name->second}, {"ignore", ignore}};
}

}  // namespace neap
