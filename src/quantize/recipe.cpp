// Recipes: names, the --override notation, and JSON both ways.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "io/json.h"
#include "io/names.h"
#include "neap/error.h"
#include "neap/quantize.h"

namespace neap {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::array kMethods = {std::pair{Method::rtn, "rtn"}, std::pair{Method::gptq, "gptq"},
                                 std::pair{Method::gptaq, "gptaq"}, std::pair{Method::awq, "awq"},
                                 std::pair{Method::ojbkq, "ojbkq"}};
constexpr std::array kSchemes = {std::pair{Scheme::integer, "integer"}, std::pair{Scheme::lobcq, "lobcq"},
                                 std::pair{Scheme::nvfp4, "nvfp4"}, std::pair{Scheme::mxfp4, "mxfp4"},
                                 std::pair{Scheme::int4, "int4"}, std::pair{Scheme::gguf, "gguf"}};
constexpr std::array kFormats = {std::pair{FileFormat::compressed_tensors, "compressed-tensors"},
                                std::pair{FileFormat::neap, "neap"}, std::pair{FileFormat::gguf, "gguf"},
                                std::pair{FileFormat::gptq, "gptq"}, std::pair{FileFormat::gptq_v2, "gptq_v2"}};
constexpr std::array kGgufMixes = {
    std::pair{GgufMix::q4_0, "Q4_0"},     std::pair{GgufMix::q4_1, "Q4_1"},     std::pair{GgufMix::q5_0, "Q5_0"},
    std::pair{GgufMix::q5_1, "Q5_1"},     std::pair{GgufMix::q8_0, "Q8_0"},     std::pair{GgufMix::iq4_nl, "IQ4_NL"},
    std::pair{GgufMix::q2_k, "Q2_K"},     std::pair{GgufMix::q2_k_s, "Q2_K_S"}, std::pair{GgufMix::q3_k_s, "Q3_K_S"},
    std::pair{GgufMix::q3_k_m, "Q3_K_M"}, std::pair{GgufMix::q3_k_l, "Q3_K_L"}, std::pair{GgufMix::q4_k_s, "Q4_K_S"},
    std::pair{GgufMix::q4_k_m, "Q4_K_M"}, std::pair{GgufMix::q5_k_s, "Q5_K_S"}, std::pair{GgufMix::q5_k_m, "Q5_K_M"},
    std::pair{GgufMix::q6_k, "Q6_K"},     std::pair{GgufMix::mxfp4, "MXFP4"},   std::pair{GgufMix::nvfp4, "NVFP4"}};
constexpr std::array kOrders = {std::pair{SolveOrder::activation, "activation"},
                               std::pair{SolveOrder::backward, "backward"},
                               std::pair{SolveOrder::forward, "forward"}};
constexpr std::array kTargets = {std::pair{SolveTarget::layer, "layer"},
                                std::pair{SolveTarget::residual, "residual"},
                                std::pair{SolveTarget::relative, "relative"}};
constexpr std::array kPrecisions = {std::pair{Precision::f32, "f32"}, std::pair{Precision::bf16, "bf16"}};

template <class Table>
auto value_from(const Table& table, const std::string& name, const char* what) {
  std::string names;
  for (const auto& [value, known] : table) {
    if (name == known) return value;
    names += std::string(names.empty() ? "" : ", ") + known;
  }
  throw Error(ErrorCode::argument, std::string("no such ") + what,
              {.expected = "one of " + names, .found = "'" + name + "'"});
}

template <class Table, class Value>
std::string name_from(const Table& table, Value value) {
  for (const auto& [known, name] : table) {
    if (known == value) return name;
  }
  return "?";
}

[[noreturn]] void bad_override(const std::string& text, const std::string& why) {
  throw Error(ErrorCode::argument, "override '" + text + "': " + why,
              {.expected = "PATTERN=bits:B,group:G,sym|asym, e.g. 're:.*down_proj=bits:4,group:32'"});
}

std::int64_t number_of(const std::string& text, const std::string& digits) {
  std::int64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value);
  if (digits.empty() || error != std::errc() || stop != end) {
    bad_override(text, "'" + digits + "' is not a whole number");
  }
  return value;
}

// Users write -1 for whole rows, as every other tool has it.
std::int64_t group_from_user(std::int64_t group) { return group == -1 ? 0 : group; }

void apply_setting(Override& result, const std::string& text, const std::string& setting) {
  const std::size_t colon = setting.find(':');
  const std::string key = setting.substr(0, colon);
  const std::string value = colon == std::string::npos ? "" : setting.substr(colon + 1);
  if (key == "bits") {
    result.bits = static_cast<int>(number_of(text, value));
  } else if (key == "group") {
    result.group = group_from_user(number_of(text, value));
  } else if (setting == "sym" || setting == "asym") {
    result.symmetric = setting == "sym";
  } else {
    bad_override(text, "unknown setting '" + setting + "'");
  }
}

OrderedJson to_json(const Override& o) {
  OrderedJson j = {{"pattern", o.pattern}};
  if (o.bits) j["bits"] = *o.bits;
  if (o.group) j["group_size"] = *o.group == 0 ? -1 : *o.group;
  if (o.symmetric) j["symmetric"] = *o.symmetric;
  return j;
}

void put_grid(OrderedJson& j, const Recipe& r) {
  j["bits"] = r.bits;
  if (r.group) j["group_size"] = *r.group == 0 ? -1 : *r.group;
  j["symmetric"] = r.symmetric;
  j["overrides"] = OrderedJson::array();
  for (const auto& o : r.overrides) j["overrides"].push_back(to_json(o));
  j["lm_head_bits"] = r.lm_head_bits;
}

void put_lobcq(OrderedJson& j, const LobcqRecipe& r) {
  j["block_array"] = r.layout.block_array;
  j["block"] = r.layout.block;
  j["num_codebooks"] = r.layout.codebooks;
  j["codebooks"] = r.codebooks;
  j["weights_only"] = r.weights_only;
  j["scales"] = name_of(r.scales);
}

void put_block_scaled(OrderedJson& j, const Recipe& r) {
  if (r.scheme == Scheme::int4) j["group_size"] = r.block_scaled.group;
  j["weights_only"] = r.block_scaled.weights_only;
}

void refuse_unknown_keys(const JsonNode& object, const std::set<std::string>& known) {
  for (const auto& [key, value] : object.value().items()) {
    if (known.contains(key)) continue;
    std::string names;
    for (const auto& name : known) names += (names.empty() ? "" : ", ") + name;
    const std::string path = object.path().empty() ? key : object.path() + "." + key;
    throw Error(ErrorCode::format, "unknown recipe key",
                {.file = object.file(), .tensor = printable(path), .expected = "one of " + names});
  }
}

void take(const JsonNode& node, bool& value) { value = node.boolean(); }
void take(const JsonNode& node, double& value) { value = node.number(); }
void take(const JsonNode& node, std::string& value) { value = node.string(); }
void take(const JsonNode& node, std::int64_t& value) { value = node.integer(); }
void take(const JsonNode& node, int& value) {
  value = static_cast<int>(node.integer(std::numeric_limits<int>::min(), std::numeric_limits<int>::max()));
}
// JsonNode's integers end at 2^63, seeds at 2^64.
void take(const JsonNode& node, std::uint64_t& value) {
  const bool beyond = node.value().is_number_unsigned();
  value = beyond ? node.value().get<std::uint64_t>() : static_cast<std::uint64_t>(node.integer(0));
}
void take(const JsonNode& node, std::vector<std::string>& values) {
  values.clear();
  for (std::size_t i = 0; i < node.size(); ++i) values.push_back(node[i].string());
}
template <class T>
void take(const JsonNode& node, std::optional<T>& value) {
  take(node, value.emplace());
}

// What is absent, or null, stays as it is.
template <class T>
void read(const JsonNode& object, const char* key, T& value) {
  if (const auto found = object.find(key)) take(*found, value);
}

void read_group(const JsonNode& object, std::optional<std::int64_t>& group) {
  read(object, "group_size", group);
  if (group) group = group_from_user(*group);
}

Override override_from_json(const JsonNode& node) {
  Override o;
  o.pattern = node.at("pattern").string();
  if (o.pattern.empty()) node.at("pattern").fail("empty", "a pattern");
  refuse_unknown_keys(node, {"pattern", "bits", "group_size", "symmetric"});
  read(node, "bits", o.bits);
  read_group(node, o.group);
  read(node, "symmetric", o.symmetric);
  return o;
}

// Keys of one scheme are unknown to the other.
void read_grid(const JsonNode& node, Recipe& r) {
  read(node, "bits", r.bits);
  read_group(node, r.group);
  read(node, "symmetric", r.symmetric);
  read(node, "lm_head_bits", r.lm_head_bits);
  const auto overrides = node.find("overrides");
  for (std::size_t i = 0; overrides && i < overrides->size(); ++i) {
    r.overrides.push_back(override_from_json((*overrides)[i]));
  }
}

void read_lobcq(const JsonNode& node, LobcqRecipe& r) {
  read(node, "block_array", r.layout.block_array);
  read(node, "block", r.layout.block);
  read(node, "num_codebooks", r.layout.codebooks);
  read(node, "codebooks", r.codebooks);
  read(node, "weights_only", r.weights_only);
  std::string scales = "search";
  read(node, "scales", scales);
  r.scales = scale_choice_from_name(scales);
}

void read_gguf(const JsonNode& node, GgufRecipe& r) {
  std::string type = name_of(r.mix);
  read(node, "type", type);
  r.mix = gguf_mix_from_name(type);
  read(node, "pure", r.pure);
  read(node, "allow_fallback", r.allow_fallback);
}

// Reads the keys that only this scheme has; returns their names.
std::set<std::string> read_scheme(const JsonNode& node, Recipe& r) {
  switch (r.scheme) {
    case Scheme::lobcq:
      read_lobcq(node, r.lobcq);
      return {"block_array", "block", "num_codebooks", "codebooks", "weights_only", "scales"};
    case Scheme::integer:
      read_grid(node, r);
      return {"bits", "group_size", "symmetric", "overrides", "lm_head_bits"};
    case Scheme::gguf:
      read_gguf(node, r.gguf);
      return {"type", "pure", "allow_fallback"};
    case Scheme::int4:
      read(node, "group_size", r.block_scaled.group);
      read(node, "weights_only", r.block_scaled.weights_only);
      return {"group_size", "weights_only"};
    case Scheme::nvfp4:
    case Scheme::mxfp4:
      read(node, "weights_only", r.block_scaled.weights_only);
      return {"weights_only"};
  }
  return {};
}

Recipe recipe_from(const JsonNode& node) {
  Recipe r;
  std::string scheme = name_of(r.scheme), method = name_of(r.method), order = name_of(r.order), precision = "bf16",
              target = name_of(r.target);
  read(node, "scheme", scheme);
  r.scheme = value_from(kSchemes, scheme, "scheme");
  std::set<std::string> known = read_scheme(node, r);
  known.insert({"method", "scheme", "ignore", "imatrix", "samples", "seqlen", "seed", "precision", "target", "target_mix",
                "ridge", "paths", "order", "descent_sweeps", "refits", "balance"});
  refuse_unknown_keys(node, known);
  read(node, "method", method);
  read(node, "ignore", r.ignore);
  read(node, "imatrix", r.imatrix);
  read(node, "samples", r.samples);
  read(node, "seqlen", r.length);
  read(node, "seed", r.seed);
  read(node, "precision", precision);
  read(node, "target", target);
  read(node, "target_mix", r.target_mix);
  read(node, "ridge", r.ridge);
  read(node, "paths", r.paths);
  read(node, "order", order);
  read(node, "descent_sweeps", r.descent_sweeps);
  read(node, "refits", r.refits);
  read(node, "balance", r.balance);
  r.method = method_from_name(method);
  r.order = order_from_name(order);
  r.target = target_from_name(target);
  r.precision = value_from(kPrecisions, precision, "precision");
  return r;
}

}  // namespace

Method method_from_name(const std::string& name) { return value_from(kMethods, name, "method"); }
std::string name_of(Method method) { return name_from(kMethods, method); }
std::string name_of(Scheme scheme) { return name_from(kSchemes, scheme); }
std::optional<BlockScaled> block_scaled_of(Scheme scheme) {
  switch (scheme) {
    case Scheme::integer:
    case Scheme::gguf:
    case Scheme::lobcq: return {};
    case Scheme::nvfp4: return BlockScaled::nvfp4;
    case Scheme::mxfp4: return BlockScaled::mxfp4;
    case Scheme::int4: return BlockScaled::int4;
  }
  return {};
}
GgufMix gguf_mix_from_name(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
  if (name == "Q3_K" || name == "Q4_K" || name == "Q5_K") name += "_M";  // as llama-quantize has it
  return value_from(kGgufMixes, name, "type of GGUF that Neap writes");
}
std::string name_of(GgufMix mix) { return name_from(kGgufMixes, mix); }
bool has_tables(GgufMix mix) { return mix == GgufMix::iq4_nl || mix == GgufMix::mxfp4 || mix == GgufMix::nvfp4; }
FileFormat format_from_name(const std::string& name) { return value_from(kFormats, name, "format"); }
std::string name_of(FileFormat format) { return name_from(kFormats, format); }
SolveOrder order_from_name(const std::string& name) { return value_from(kOrders, name, "order"); }
std::string name_of(SolveOrder order) { return name_from(kOrders, order); }
SolveTarget target_from_name(const std::string& name) { return value_from(kTargets, name, "target"); }
std::string name_of(SolveTarget target) { return name_from(kTargets, target); }

bool balances(const Recipe& recipe) {
  if (recipe.balance) return *recipe.balance;
  const bool inputs = recipe.scheme == Scheme::lobcq ? !recipe.lobcq.weights_only
                                                     : block_scaled_of(recipe.scheme) && !recipe.block_scaled.weights_only;
  return recipe.method == Method::ojbkq && inputs;
}

Override parse_override(const std::string& text) {
  // A regular expression may hold '=', the settings never do.
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0) bad_override(text, "no '=' after the pattern");
  Override result;
  result.pattern = text.substr(0, equals);
  std::string rest = text.substr(equals + 1);
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    apply_setting(result, text, rest.substr(0, comma));
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
  }
  if (!result.bits && !result.group && !result.symmetric) bad_override(text, "it changes nothing");
  return result;
}

std::string Recipe::to_json() const {
  OrderedJson j = {{"method", name_of(method)}, {"scheme", name_of(scheme)}};
  if (scheme == Scheme::lobcq) {
    put_lobcq(j, lobcq);
  } else if (scheme == Scheme::integer) {
    put_grid(j, *this);
  } else if (scheme == Scheme::gguf) {
    j["type"] = name_of(gguf.mix);
    j["pure"] = gguf.pure;
    j["allow_fallback"] = gguf.allow_fallback;
  } else {
    put_block_scaled(j, *this);
  }
  j["ignore"] = ignore;
  j["imatrix"] = imatrix;
  j["samples"] = samples;
  j["seqlen"] = length;
  j["seed"] = seed;
  j["precision"] = name_from(kPrecisions, precision);
  j["target"] = name_of(target);
  j["target_mix"] = target_mix;
  j["ridge"] = ridge;
  j["paths"] = paths;
  j["order"] = name_of(order);
  j["descent_sweeps"] = descent_sweeps;
  j["refits"] = refits;
  j["balance"] = balances(*this);
  return j.dump(2);
}

Recipe Recipe::from_json(const std::string& text, const std::string& file) {
  const Json json = parse_json(text, file);
  const JsonNode root(json, file);
  const auto inside = root.find("recipe");  // of a report
  return recipe_from(inside ? *inside : root);
}

}  // namespace neap
