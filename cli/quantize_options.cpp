#include "quantize_options.h"

#include <fmt/format.h>

namespace neap::cli {
namespace {

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

}  // namespace

void add_quantize_options(CLI::App& app, QuantizeCommand& c) {
  add_model(app, c.model);
  app.add_option("-o,--output", c.options.output, "directory to write, of GGUF also a file NAME.gguf; it appears when it\n"
                 "is complete")
      ->required()
      ->type_name("OUT");
  app.add_flag("--overwrite", c.options.overwrite, "replace a model that stands at OUT");
  auto* verify = app.add_flag("--verify", c.verify, "compare predictions with MODEL's also where that takes as long as all\n"
                              "else: after rounding a model of more than a billion weights");
  app.add_flag("--no-verify", c.no_verify, "do not compare the output with MODEL, nor its predictions (as neap verify\n"
               "does); what was written is read back all the same")
      ->excludes(verify);
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

}  // namespace neap::cli
