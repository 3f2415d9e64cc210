// Recipes: names, the --override notation, and JSON both ways.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "neap/error.h"
#include "neap/quantize.h"

namespace neap {
namespace {

using Json = nlohmann::ordered_json;

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
                                std::pair{SolveTarget::residual, "residual"}};
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

Json to_json(const Override& o) {
  Json j = {{"pattern", o.pattern}};
  if (o.bits) j["bits"] = *o.bits;
  if (o.group) j["group_size"] = *o.group == 0 ? -1 : *o.group;
  if (o.symmetric) j["symmetric"] = *o.symmetric;
  return j;
}

void put_grid(Json& j, const Recipe& r) {
  j["bits"] = r.bits;
  if (r.group) j["group_size"] = *r.group == 0 ? -1 : *r.group;
  j["symmetric"] = r.symmetric;
  j["overrides"] = Json::array();
  for (const auto& o : r.overrides) j["overrides"].push_back(to_json(o));
  j["lm_head_bits"] = r.lm_head_bits;
}

void put_lobcq(Json& j, const LobcqRecipe& r) {
  j["block_array"] = r.layout.block_array;
  j["block"] = r.layout.block;
  j["num_codebooks"] = r.layout.codebooks;
  j["codebooks"] = r.codebooks;
  j["weights_only"] = r.weights_only;
  j["scales"] = name_of(r.scales);
}

void put_block_scaled(Json& j, const Recipe& r) {
  if (r.scheme == Scheme::int4) j["group_size"] = r.block_scaled.group;
  j["weights_only"] = r.block_scaled.weights_only;
}

void refuse_unknown_keys(const Json& object, const std::set<std::string>& known, const std::string& file) {
  for (const auto& [key, value] : object.items()) {
    if (known.contains(key)) continue;
    std::string names;
    for (const auto& name : known) names += (names.empty() ? "" : ", ") + name;
    throw Error(ErrorCode::format, "unknown recipe key",
                {.file = file, .tensor = key, .expected = "one of " + names});
  }
}

template <class T>
void read(const Json& object, const char* key, T& value, const std::string& file) {
  if (!object.contains(key)) return;
  try {
    value = object.at(key).get<T>();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::format, "recipe value of the wrong type",
                {.file = file, .tensor = key, .found = object.at(key).dump()});
  }
}

Override override_from_json(const Json& j, const std::string& file) {
  refuse_unknown_keys(j, {"pattern", "bits", "group_size", "symmetric"}, file);
  Override o;
  read(j, "pattern", o.pattern, file);
  if (o.pattern.empty()) throw Error(ErrorCode::format, "an override needs a 'pattern'", {.file = file});
  int bits = 0;
  std::int64_t group = 0;
  bool symmetric = false;
  read(j, "bits", bits, file);
  read(j, "group_size", group, file);
  read(j, "symmetric", symmetric, file);
  if (j.contains("bits")) o.bits = bits;
  if (j.contains("group_size")) o.group = group_from_user(group);
  if (j.contains("symmetric")) o.symmetric = symmetric;
  return o;
}

// Keys of one scheme are unknown to the other.
void read_grid(const Json& j, Recipe& r, const std::string& file) {
  std::int64_t group = 0;
  std::vector<Json> overrides;
  read(j, "bits", r.bits, file);
  read(j, "group_size", group, file);
  read(j, "symmetric", r.symmetric, file);
  read(j, "overrides", overrides, file);
  read(j, "lm_head_bits", r.lm_head_bits, file);
  if (j.contains("group_size")) r.group = group_from_user(group);
  for (const Json& o : overrides) r.overrides.push_back(override_from_json(o, file));
}

void read_lobcq(const Json& j, LobcqRecipe& r, const std::string& file) {
  read(j, "block_array", r.layout.block_array, file);
  read(j, "block", r.layout.block, file);
  read(j, "num_codebooks", r.layout.codebooks, file);
  read(j, "codebooks", r.codebooks, file);
  read(j, "weights_only", r.weights_only, file);
  std::string scales = "search";
  read(j, "scales", scales, file);
  r.scales = scale_choice_from_name(scales);
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
  Json j = {{"method", name_of(method)}, {"scheme", name_of(scheme)}};
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
  Json j = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (j.is_discarded() || !j.is_object()) {
    throw Error(ErrorCode::format, "a recipe is one JSON object", {.file = file});
  }
  if (j.contains("recipe") && j["recipe"].is_object()) j = Json(j["recipe"]);  // in a report
  Recipe r;
  std::string scheme = name_of(r.scheme);
  read(j, "scheme", scheme, file);
  r.scheme = value_from(kSchemes, scheme, "scheme");
  std::set<std::string> known = {"method",    "scheme", "ignore", "imatrix",      "samples", "seqlen", "seed",  "precision",
                                 "target",    "target_mix", "ridge",   "paths",   "order",  "descent_sweeps", "refits", "balance"};
  if (r.scheme == Scheme::lobcq) {
    known.insert({"block_array", "block", "num_codebooks", "codebooks", "weights_only", "scales"});
    read_lobcq(j, r.lobcq, file);
  } else if (r.scheme == Scheme::integer) {
    known.insert({"bits", "group_size", "symmetric", "overrides", "lm_head_bits"});
    read_grid(j, r, file);
  } else if (r.scheme == Scheme::gguf) {
    known.insert({"type", "pure", "allow_fallback"});
    std::string type = name_of(r.gguf.mix);
    read(j, "type", type, file);
    r.gguf.mix = gguf_mix_from_name(type);
    read(j, "pure", r.gguf.pure, file);
    read(j, "allow_fallback", r.gguf.allow_fallback, file);
  } else {
    known.insert("weights_only");
    if (r.scheme == Scheme::int4) known.insert("group_size");
    read(j, "group_size", r.block_scaled.group, file);
    read(j, "weights_only", r.block_scaled.weights_only, file);
  }
  refuse_unknown_keys(j, known, file);
  std::string method = name_of(r.method), order = name_of(r.order), precision = "bf16";
  std::string target = name_of(r.target);
  read(j, "method", method, file);
  read(j, "ignore", r.ignore, file);
  read(j, "imatrix", r.imatrix, file);
  read(j, "samples", r.samples, file);
  read(j, "seqlen", r.length, file);
  read(j, "seed", r.seed, file);
  read(j, "precision", precision, file);
  read(j, "target", target, file);
  read(j, "target_mix", r.target_mix, file);
  read(j, "ridge", r.ridge, file);
  read(j, "paths", r.paths, file);
  read(j, "order", order, file);
  read(j, "descent_sweeps", r.descent_sweeps, file);
  read(j, "refits", r.refits, file);
  bool balance = false;
  read(j, "balance", balance, file);
  if (j.contains("balance")) r.balance = balance;
  r.method = method_from_name(method);
  r.order = order_from_name(order);
  r.target = target_from_name(target);
  r.precision = value_from(kPrecisions, precision, "precision");
  return r;
}

}  // namespace neap
