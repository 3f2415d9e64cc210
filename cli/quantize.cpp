// neap quantize: the main job.
#include "neap/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>

#include "commands.h"
#include "neap/codebooks.h"
#include "neap/error.h"
#include "options.h"
#include "verify_text.h"

namespace neap::cli {
namespace {

constexpr char kFooter[] =
    "Methods:\n"
    "  rtn    round to the nearest point of the grid; no calibration, seconds\n"
    "  gptq   GPTQ, with exact static groups\n"
    "  gptaq  GPTQ with the published correction towards full-precision activations\n"
    "  awq    activation-aware scales folded into the neighbours, clipping, rounding\n"
    "  ojbkq  joint target, lattice decoding along K random paths, descent: the best, the default\n"
    "\n"
    "Examples:\n"
    "  neap quantize meta-llama/Llama-3.2-1B -o small-w4\n"
    "  neap quantize model/ -o small-w4a4 --scheme LOBCQ\n"
    "  neap quantize model/ -o small-nvfp4 --scheme NVFP4 --method rtn\n"
    "  neap quantize model/ -o small-Q4_K_M --scheme GGUF:Q4_K_M --calib wiki.txt\n"
    "  neap quantize model.gguf -o small-w3 --scheme W3A16_ASYM --group-size 64\n"
    "  neap quantize model/ -o out --calib wiki.txt chats.jsonl --samples 128 --seqlen 2048\n"
    "  neap quantize model/ -o out --override 're:.*down_proj=bits:4,group:32' --ignore 're:.*layers.0.*'\n"
    "  neap quantize model/ -o out --recipe earlier/neap_recipe.json\n"
    "  neap quantize model/ -o w4 --calib wiki.txt --also W4A16:gptq=w4-gptq --also GGUF:Q4_0=Q4_0.gguf";

// What was said on the command line; what was not stays with the recipe file or the defaults.
struct QuantizeCommand {
  std::string model, recipe_file;
  std::optional<std::string> scheme, scales, method, target, order, lm_head, format, codebooks;
  std::optional<int> block_array, num_codebooks;
  std::optional<int> bits, paths, descent, refits;
  std::optional<std::int64_t> group, samples, length;
  std::optional<double> target_mix, ridge;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> overrides, ignore, also;
  bool symmetric = false, asymmetric = false, weights_only = false, allow_fallback = false, pure = false;
  bool balance = false, no_balance = false, no_verify = false;
  Precision precision = Recipe{}.precision;
  const CLI::Option* precision_option = nullptr;
  QuantizeOptions options;
  CommonOptions common;
};

void add_grid_options(CLI::App& app, QuantizeCommand& c) {
  app.add_option("--scheme", c.scheme,
                 "the grid by its usual name: W4A16, W3A16, W2A16 or W8A16, with\n"
                 "_ASYM for zero points and G64 for a group size; 4 bits for weights and\n"
                 "activations (W4A4): LOBCQ, codebooks, which Neap alone runs; NVFP4, MXFP4,\n"
                 "INT4, which hardware multiplies; NVFP4A16 and its like for weights alone;\n"
                 "for llama.cpp: GGUF:Q4_K_M and its like, Q2_K to Q6_K with _S, _M and _L,\n"
                 "Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4, NVFP4\n")
      ->type_name("NAME")
      ->default_str("W4A16");
  app.add_option("--bits", c.bits, "bits of a weight, 2 to 8")->type_name("B")->default_str("4");
  app.add_option("--group-size", c.group, "weights of a row that share a scale; -1: all of them\n")
      ->type_name("G")
      ->default_str("the largest of 128, 64, 32 that divides; INT4: 64");
  auto* sym = app.add_flag("--sym", c.symmetric, "no zero points (the default)");
  app.add_flag("--asym", c.asymmetric, "a zero point for each group")->excludes(sym);
  app.add_option("--override", c.overrides,
                 "another grid for some layers, e.g. 're:.*down_proj=bits:4,group:32';\n"
                 "the first that matches decides")
      ->type_name("PATTERN=...")
      ->take_all();
  app.add_option("--ignore", c.ignore, "layers to leave as they are: a name or re:REGEX")
      ->type_name("PATTERN...")
      ->take_all();
  app.add_flag("--pure", c.pure, "GGUF: one block type for all matrices, where llama.cpp's rules mix several");
  app.add_flag("--allow-fallback", c.allow_fallback,
               "GGUF: where rows are no whole number of blocks, llama.cpp's second choice\n"
               "instead of an error");
  app.add_option("--lm-head", c.lm_head, "keep the head as it is, or its bits")
      ->type_name("keep|BITS")
      ->default_str("keep");
}

void add_lobcq_options(CLI::App& app, QuantizeCommand& c) {
  const LobcqRecipe defaults;
  app.add_flag("--weights-only", c.weights_only, "LOBCQ, NVFP4, MXFP4, INT4: keep activations at 16 bits");
  app.add_option("--codebooks", c.codebooks, "LOBCQ: codebooks of `neap codebooks fit`, and their sizes\n")
      ->type_name("FILE.json")
      ->default_str("those that Neap ships");
  app.add_option("--block-array", c.block_array, "LOBCQ: weights of a row that share a scale: 16, 32, 64, 128\n")
      ->type_name("LA")
      ->default_str(fmt::to_string(defaults.layout.block_array));
  app.add_option("--scales", c.scales, "LOBCQ: search, by error, or maximum, from the largest value alone, as\n"
                 "published (rtn)")
      ->type_name("NAME")
      ->default_str("search");
  app.add_option("--num-codebooks", c.num_codebooks, "LOBCQ: 2, 4, 8 or 16")
      ->type_name("NC")
      ->default_str(fmt::to_string(defaults.layout.codebooks));
}

void add_method_options(CLI::App& app, QuantizeCommand& c) {
  const Recipe defaults;
  app.add_option("--method", c.method, "rtn, gptq, gptaq, awq or ojbkq, see below")
      ->type_name("NAME")
      ->default_str(name_of(defaults.method));
  app.add_option("--target", c.target,
                 "residual: o_proj and down_proj make up for what the residual stream lost\n"
                 "before them; layer: each layer is matched by itself, as in the paper\n")
      ->type_name("NAME")
      ->default_str(name_of(defaults.target));
  app.add_option("--target-mix", c.target_mix,
                 "mu, 0 to 1. 1: match the layer on the inputs it will see; 0: match\n"
                 "what the full-precision model computes")
      ->type_name("MU")
      ->default_str(fmt::to_string(defaults.target_mix));
  app.add_option("--ridge", c.ridge, "lambda^2, pull towards the old weights, relative to the mean\n"
                 "second moment of the inputs")
      ->type_name("R")
      ->default_str(fmt::to_string(defaults.ridge));
  app.add_option("--paths", c.paths, "random paths beside the greedy one; 0: greedy alone")
      ->type_name("K")
      ->default_str(fmt::to_string(defaults.paths));
  app.add_option("--order", c.order, "order in which inputs are decided: activation, backward, forward\n")
      ->type_name("NAME")
      ->default_str(name_of(defaults.order));
  app.add_option("--descent", c.descent, "sweeps of coordinate descent at most; 0: none")
      ->type_name("SWEEPS")
      ->default_str(fmt::to_string(defaults.descent_sweeps));
  app.add_option("--refit", c.refits, "grids of integers: rounds of scales chosen anew for\n"
                 "the codes, at most; 0: none")
      ->type_name("ROUNDS")
      ->default_str(fmt::to_string(defaults.refits));
  auto* balance = app.add_flag("--balance", c.balance,
                               "first move factors between inputs and weights, into norms and neighbouring\n"
                               "layers, so that both lose less to rounding; the default of ojbkq where\n"
                               "activations are rounded too");
  app.add_flag("--no-balance", c.no_balance, "leave them as they are")->excludes(balance);
  app.add_option("--seed", c.seed, "of all random numbers")
      ->type_name("S")
      ->default_str(fmt::to_string(defaults.seed));
  app.add_option("--recipe", c.recipe_file,
                 "settings from a file, such as neap_recipe.json beside an output;\n"
                 "options given as well go before it")
      ->type_name("FILE.json");
}

void add_calibration_options(CLI::App& app, QuantizeCommand& c) {
  const Recipe defaults;
  app.add_option("--calib", c.options.calibration_files,
                 "text to calibrate on: plain text, or .jsonl with {\"text\"}, {\"messages\"}\n"
                 "or {\"ids\"} lines. Without: text that the model writes itself")
      ->type_name("FILE...");
  app.add_option("--imatrix", c.options.imatrix,
                 "instead of text: an importance matrix of llama.cpp, GGUF or .dat, by which\n"
                 "errors are weighed (rtn, on integer grids and GGUF's)")
      ->type_name("FILE");
  app.add_option("--samples", c.samples, "windows of calibration text\n")
      ->check(kPositive)
      ->type_name("N")
      ->default_str("all of the text; 24 of the model's own");
  app.add_option("--seqlen", c.length, "tokens of a window")
      ->check(kPositive)
      ->type_name("L")
      ->default_str(fmt::to_string(defaults.length));
  c.precision_option = add_precision(app, c.precision);
}

void add_options(CLI::App& app, QuantizeCommand& c) {
  add_model(app, c.model);
  app.add_option("-o,--output", c.options.output, "directory to write, of GGUF also a file NAME.gguf; it appears when it\n"
                 "is complete")
      ->required()
      ->type_name("OUT");
  app.add_flag("--overwrite", c.options.overwrite, "replace a model that stands at OUT");
  app.add_flag("--no-verify", c.no_verify, "do not compare the output with MODEL, nor its predictions (as neap verify\n"
               "does); what was written is read back all the same");
  app.add_option("--format", c.format, "compressed-tensors, gptq, gptq_v2, neap or gguf\n")
      ->type_name("NAME")
      ->default_str("the one that holds the scheme");
  add_max_shard_size(app, c.options.max_shard_bytes);
  add_grid_options(app, c);
  add_lobcq_options(app, c);
  add_method_options(app, c);
  add_calibration_options(app, c);
  app.add_option("--also", c.also,
                 "a further output from the same calibration, e.g. GGUF:Q4_0=OUT.gguf or\n"
                 "W4A16_ASYM:gptq_v2=OUT; options of the grid are for -o alone, all others\n"
                 "for every output")
      ->type_name("SCHEME[:FORMAT]=OUT")
      ->take_all();
  add_base_model(app, c.options.base_model);
  add_max_memory(app, c.options.max_memory);
  add_common(app, c.common, "print the report as one JSON object instead of text");
}

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

// "SCHEME[:FORMAT]=OUT": the main recipe on another grid.
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

std::string describe_run(const QuantizeReport& r) {
  std::string text = line("output", fmt::format("{}, {}", r.output, size_text(r.file_bytes)));
  text += line("grid", words_for(r.layout) + (r.layout_reason.empty() ? "" : ": " + r.layout_reason));
  text += line("activations", r.activations);
  text += line("bits per weight", fmt::format("{:.3f} of the {} quantized layers, {:.3f} of the whole file",
                                              r.bits_per_weight, r.layers.size(), r.file_bits_per_weight));
  if (r.calibration_windows > 0 && r.calibration_tokens > 0) {
    text += line("calibration", fmt::format("{} tokens in {} windows", count_text(r.calibration_tokens),
                                            r.calibration_windows));
  }
  for (const auto& phase : r.phases) {
    text += line("  " + phase.name,
                 phase.gflop > 0 && phase.seconds > 0
                     ? fmt::format("{:.1f} s, {:.0f} GFLOP/s", phase.seconds, phase.gflop / phase.seconds)
                     : fmt::format("{:.1f} s", phase.seconds));
  }
  text += line("time, peak memory", fmt::format("{:.1f} s, {}", r.seconds, size_text(r.peak_memory)));
  if (r.verification) text += describe(*r.verification);
  for (const auto& engine : r.engines) {
    text += line(engine.loads ? "loads in" : "does not load in",
                 engine.name + (engine.reason.empty() ? "" : ": " + engine.reason));
  }
  for (const auto& note : r.notes) text += line("note", note);
  return text;
}

// All that succeeded, then one error for each of the others.
void show(const std::vector<QuantizeOutcome>& outcomes, bool json, Console& console) {
  std::string reports;
  std::vector<Error> failures;
  for (const QuantizeOutcome& outcome : outcomes) {
    if (outcome.report) {
      reports += (reports.empty() ? "" : json ? ",\n" : "\n") + (json ? outcome.report->to_json() : describe_run(*outcome.report));
    } else {
      failures.emplace_back(outcome.failure->code(), (outcomes.size() > 1 ? outcome.output + " was not made: " : "") + outcome.failure->what());
    }
  }
  if (failures.size() < outcomes.size()) console.print(json ? (outcomes.size() > 1 ? "[" + reports + "]\n" : reports + "\n") : reports);
  for (std::size_t i = 0; i + 1 < failures.size(); ++i) console.log().error(failures[i].what());
  if (!failures.empty()) throw failures.back();
}

void run(QuantizeCommand& c, Console& console) {
  c.options.recipe = recipe_of(c);
  if (c.format) c.options.format = format_from_name(*c.format);
  c.options.verify = !c.no_verify;
  c.options.threads = c.common.threads;
  c.options.progress = console.progress();
  c.options.command = console.command_line();
  std::vector<OtherOutput> others;
  for (const std::string& text : c.also) others.push_back(parse_also(text, c.options.recipe));
  const std::vector<QuantizeOutcome> outcomes = quantize_all(Checkpoint::open(c.model), c.options, others);
  console.clear_progress();
  show(outcomes, c.common.json, console);
}

}  // namespace

Command make_quantize(CLI::App& program) {
  auto command = std::make_shared<QuantizeCommand>();
  CLI::App* app = program.add_subcommand("quantize", "Make a model smaller");
  add_options(*app, *command);
  app->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            run(*command, console);
          }};
}

}  // namespace neap::cli
