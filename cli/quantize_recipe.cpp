#include "quantize_recipe.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <regex>

#include "neap/codebooks.h"
#include "neap/error.h"

namespace neap::cli {
namespace {

[[noreturn]] void refuse(const std::string& message, const std::string& expected,
                         const std::string& found) {
  throw Error(ErrorCode::argument, message, {.expected = expected, .found = found});
}

constexpr std::string_view kGguf = "GGUF:", kWeightsAlone = "A16";

// Those that are one name.
Scheme named_scheme(std::string scheme) {
  std::transform(scheme.begin(), scheme.end(), scheme.begin(), [](unsigned char c) { return std::toupper(c); });
  if (scheme.starts_with(kGguf)) return Scheme::gguf;
  if (scheme == "LOBCQ" || scheme == "LO-BCQ") return Scheme::lobcq;
  if (scheme.ends_with(kWeightsAlone)) scheme.erase(scheme.size() - kWeightsAlone.size());
  for (const Scheme known : {Scheme::nvfp4, Scheme::mxfp4, Scheme::int4}) {
    if (scheme == name_of(*block_scaled_of(known))) return known;
  }
  return Scheme::integer;
}

// W4A16, W4A16_ASYM, W4A16G32, w3a16_g64_sym, LOBCQ, NVFP4, NVFP4A16
void apply_scheme(const std::string& scheme, Recipe& recipe) {
  recipe.scheme = named_scheme(scheme);
  if (const auto blocks = block_scaled_of(recipe.scheme); blocks && scheme.size() > name_of(*blocks).size()) {
    recipe.block_scaled.weights_only = true;  // A16
  }
  if (recipe.scheme == Scheme::gguf) recipe.gguf.mix = gguf_mix_from_name(scheme.substr(kGguf.size()));
  if (recipe.scheme != Scheme::integer) return;
  static const std::regex kForm(R"(W([2-8])A16(?:_?G(\d{1,6}))?(?:_(A?)SYM)?)", std::regex::icase);
  std::smatch match;
  if (!std::regex_match(scheme, match, kForm)) {
    refuse("--scheme is not one that Neap writes", "W2A16 to W8A16, as in W4A16, W3A16_ASYM, W4A16G32, or LOBCQ, NVFP4, MXFP4, INT4, NVFP4A16, GGUF:Q4_K_M and its like", scheme);
  }
  recipe.bits = std::stoi(match[1]);
  if (match[2].matched) recipe.group = std::stoll(match[2]);
  if (match[3].matched) recipe.symmetric = match[3].length() == 0;
}

// Options that mean nothing on the recipe's grid are an error, not ignored.
void refuse_options_of_others(const QuantizeCommand& c, const Recipe& recipe) {
  const Scheme scheme = recipe.scheme;
  const auto block_scaled = block_scaled_of(scheme);
  const bool gguf = scheme == Scheme::gguf, gguf_integers = gguf && !has_tables(recipe.gguf.mix);
  const bool others_are_gguf = std::any_of(c.also.begin(), c.also.end(), [](const std::string& also) { return named_scheme(also) == Scheme::gguf; });
  const bool integer = scheme == Scheme::integer, lobcq = scheme == Scheme::lobcq, int4 = scheme == Scheme::int4;
  const struct {
    const char* name;
    bool said, fits;
    const char* where;
  } options[] = {{"--bits", c.bits.has_value(), integer, "integer grids"},
                 {"--group-size", c.group.has_value(), integer || int4, "integer grids"},
                 {"--sym", c.symmetric, integer, "integer grids"},
                 {"--asym", c.asymmetric, integer, "integer grids"},
                 {"--override", !c.overrides.empty(), integer, "integer grids"},
                 {"--lm-head", c.lm_head && *c.lm_head != "keep", integer, "integer grids"},
                 {"--paths", c.paths.has_value(), integer || int4 || gguf_integers, "integer grids"},
                 {"--refit", c.refits.has_value(), integer || int4 || gguf_integers, "integer grids"},
                 {"--allow-fallback", c.allow_fallback, gguf || others_are_gguf, "--scheme GGUF:..."},
                 {"--pure", c.pure, gguf || others_are_gguf, "--scheme GGUF:..."},
                 {"--weights-only", c.weights_only, !integer && !gguf, "--scheme LOBCQ, NVFP4, MXFP4 or INT4"},
                 {"--codebooks", c.codebooks.has_value(), lobcq, "--scheme LOBCQ"},
                 {"--scales", c.scales.has_value(), lobcq, "--scheme LOBCQ"},
                 {"--block-array", c.block_array.has_value(), lobcq, "--scheme LOBCQ"},
                 {"--num-codebooks", c.num_codebooks.has_value(), lobcq, "--scheme LOBCQ"}};
  const std::string found = block_scaled ? "--scheme " + name_of(*block_scaled)
                            : lobcq      ? "--scheme LOBCQ"
                            : gguf       ? "--scheme GGUF"
                                         : c.scheme.value_or("an integer grid");
  for (const auto& option : options) {
    if (option.said && !option.fits) refuse(option.name, std::string("only with ") + option.where, found);
  }
}

void apply_grid(const QuantizeCommand& c, Recipe& recipe) {
  if (c.scheme) apply_scheme(*c.scheme, recipe);
  refuse_options_of_others(c, recipe);
  if (c.weights_only) (recipe.scheme == Scheme::lobcq ? recipe.lobcq.weights_only : recipe.block_scaled.weights_only) = true;
  if (c.allow_fallback) recipe.gguf.allow_fallback = true;
  if (c.pure) recipe.gguf.pure = true;
  if (c.codebooks) {
    recipe.lobcq.codebooks = *c.codebooks;
    recipe.lobcq.layout = read_codebooks(*c.codebooks).layout;
  }
  if (c.scales) recipe.lobcq.scales = scale_choice_from_name(*c.scales);
  if (c.block_array) recipe.lobcq.layout.block_array = *c.block_array;
  if (c.num_codebooks) recipe.lobcq.layout.codebooks = *c.num_codebooks;
  if (c.bits && c.scheme && *c.bits != recipe.bits) {
    refuse("--scheme and --bits contradict each other", *c.scheme, std::to_string(*c.bits) + " bits");
  }
  if (c.bits) recipe.bits = *c.bits;
  if (c.group && (*c.group == 0 || *c.group < -1)) {
    refuse("--group-size", "a positive number, or -1 for whole rows", std::to_string(*c.group));
  }
  if (c.group && recipe.scheme == Scheme::int4) {
    recipe.block_scaled.group = *c.group;
  } else if (c.group) {
    recipe.group = *c.group == -1 ? 0 : *c.group;
  }
  if (c.symmetric || c.asymmetric) recipe.symmetric = c.symmetric;
  for (const auto& text : c.overrides) recipe.overrides.push_back(parse_override(text));
  recipe.ignore.insert(recipe.ignore.end(), c.ignore.begin(), c.ignore.end());
  if (c.lm_head && *c.lm_head == "keep") {
    recipe.lm_head_bits = 0;
  } else if (c.lm_head) {
    if (c.lm_head->size() != 1 || (*c.lm_head)[0] < '2' || (*c.lm_head)[0] > '8') {
      refuse("--lm-head", "keep, or 2 to 8 bits", *c.lm_head);
    }
    recipe.lm_head_bits = (*c.lm_head)[0] - '0';
  }
}

template <class T>
void take(const std::optional<T>& said, T& setting) {
  if (said) setting = *said;
}

}  // namespace

Recipe recipe_of(const QuantizeCommand& c) {
  Recipe recipe;
  if (!c.recipe_file.empty()) {
    std::ifstream in(c.recipe_file, std::ios::binary);
    if (!in) throw Error(ErrorCode::io, "cannot open the recipe", {.file = c.recipe_file});
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    recipe = Recipe::from_json(text, c.recipe_file);
  }
  apply_grid(c, recipe);
  if (!c.options.imatrix.empty()) recipe.imatrix = true;
  if (c.method || recipe.imatrix) recipe.method = c.method ? method_from_name(*c.method) : Method::rtn;
  if (c.order) recipe.order = order_from_name(*c.order);
  take(c.samples, recipe.samples);
  take(c.length, recipe.length);
  take(c.seed, recipe.seed);
  if (c.target) recipe.target = target_from_name(*c.target);
  take(c.target_mix, recipe.target_mix);
  take(c.ridge, recipe.ridge);
  take(c.paths, recipe.paths);
  take(c.descent, recipe.descent_sweeps);
  take(c.refits, recipe.refits);
  if (c.balance || c.no_balance) recipe.balance = c.balance;
  if (c.precision_option->count() > 0) recipe.precision = c.precision;
  return recipe;
}

OtherOutput parse_also(const std::string& text, const Recipe& main) {
  const std::size_t equals = text.find('=');
  if (equals == text.npos || equals + 1 == text.size()) refuse("--also", "SCHEME=OUT or SCHEME:FORMAT=OUT", text);
  OtherOutput other{.recipe = main, .output = text.substr(equals + 1), .format = {}};
  std::string scheme = text.substr(0, equals);
  if (const std::size_t colon = scheme.rfind(':'); colon != scheme.npos) {
    for (const FileFormat format : {FileFormat::compressed_tensors, FileFormat::gptq, FileFormat::gptq_v2, FileFormat::neap, FileFormat::gguf}) {
      if (scheme.substr(colon + 1) == name_of(format)) other.format = format;
    }
    if (other.format) scheme.erase(colon);
  }
  const Recipe plain;
  other.recipe.bits = plain.bits;
  other.recipe.group = plain.group;
  other.recipe.symmetric = plain.symmetric;
  other.recipe.overrides.clear();
  other.recipe.lm_head_bits = plain.lm_head_bits;
  other.recipe.lobcq = plain.lobcq;
  other.recipe.block_scaled = plain.block_scaled;
  apply_scheme(scheme, other.recipe);
  return other;
}

}  // namespace neap::cli
