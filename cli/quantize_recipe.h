// neap quantize: options and recipe files as recipes.
#pragma once

#include <string>

#include "neap/quantize.h"
#include "quantize_options.h"

namespace neap::cli {

// Options go before the recipe file, that before the defaults. Throws Error(argument) for options that mean nothing on the grid, or
// contradict each other.
Recipe recipe_of(const QuantizeCommand& command);

// "SCHEME[:FORMAT]=OUT": the main recipe on another grid. Throws Error(argument).
OtherOutput parse_also(const std::string& text, const Recipe& main);

}  // namespace neap::cli
