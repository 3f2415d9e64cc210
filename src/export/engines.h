// Which engines load what ModelWriter writes, and why the others do not. Facts about other people's
// programs, with the versions that they were read in: docs/formats/compressed-tensors.md.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "codec/gptq_pack.h"
#include "neap/codec.h"
#include "neap/model.h"
#include "neap/quantize.h"

namespace neap {

// reason: the version that it needs, or one sentence naming the module that it cannot take.
using EngineVerdict = QuantizeReport::Engine;

// For models in a block-scaled format; `inputs`: activations in it as well (INT4: always).
std::vector<EngineVerdict> engines_for(BlockScaled format, bool inputs);

// For GPTQ's form.
std::vector<EngineVerdict> engines_for_gptq(const std::map<std::string, GroupLayout>& layers, GptqVersion version);

// For GGUF, by the type that most of its matrices have.
std::vector<EngineVerdict> engines_for_gguf(DType type);

// layers: quantized modules by name, as ModelWriter has them.
std::vector<EngineVerdict> engines_for(const ModelConfig& config,
                                       const std::map<std::string, GroupLayout>& layers);

}  // namespace neap
