// neap quantize: what was said on the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "neap/quantize.h"
#include "options.h"

namespace neap::cli {

// What was not said stays with the recipe file or the defaults.
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
  bool balance = false, no_balance = false, verify = false, no_verify = false;
  Precision precision = Recipe{}.precision;
  const CLI::Option* precision_option = nullptr;
  QuantizeOptions options;
  CommonOptions common;
};

void add_quantize_options(CLI::App& app, QuantizeCommand& command);

}  // namespace neap::cli
