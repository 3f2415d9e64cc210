// What a recipe becomes on disk: which format, whose writer, which engines load it, how the inputs of layers are stored.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "export/model_output.h"
#include "model/neap_config.h"
#include "model/weights.h"
#include "neap/codebooks.h"
#include "neap/quantize.h"
#include "quantize/plan.h"

namespace neap {

// The one asked for, or the usual one of the scheme. Throws Error(argument) for one that does not hold the scheme.
FileFormat format_of(const QuantizeOptions& options);

// make_plan, with scales in the type that the format stores.
Plan plan_for_output(const QuantizeOptions& options, const ModelConfig& config);

// LO-BCQ: rounding asks for no calibration text; where none is given, there are no scales from it
// either. NVFP4's files have no place for scales per token, the other block-scaled formats none for
// scales of calibration.
InputScales input_scales(const QuantizeOptions& options);
std::string words_for_activations(const QuantizeOptions& options);

// Those that the recipe names, or that Neap ships. Throws as read_codebooks, and Error(argument) for another layout's.
CodebookSet codebooks_of(const LobcqRecipe& recipe);

// Throws as the writers do. codebooks: looked at for LO-BCQ alone.
std::unique_ptr<ModelOutput> make_output(const QuantizeOptions& options, const Weights& weights, const Plan& plan,
                                         const CodebookSet& codebooks);

std::vector<QuantizeReport::Engine> engines_of(const QuantizeOptions& options, const ModelConfig& config, const Plan& plan);

}  // namespace neap
