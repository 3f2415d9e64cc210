// What a recipe means for one model: a grid for each linear layer, settled and checked before any work.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "neap/codec.h"
#include "neap/model.h"
#include "neap/quantize.h"

namespace neap {

struct Plan {
  WeightLayout layout;        // of the layers that no override touches
  std::string layout_reason;  // why this group size, if the recipe left it open
  std::map<std::string, WeightLayout> layers;  // quantized modules by name, without those ignored
  // Of GGUF: what is rounded besides ("model.embed_tokens", "lm_head"), and which kinds of tensors have another type
  // than the scheme asks for because of their shape, in words, with how many there are of each.
  std::map<std::string, GgufLayout> rounded;
  std::map<std::string, int> fallbacks;

  // Null for a module that is kept as it is.
  const WeightLayout* find(const std::string& module) const;
};

// Throws Error(argument): bits outside 2..8, a group size that does not divide a layer's inputs (the
// output format cannot hold that), members of a fused group (q, k, v; gate, up) with different grids,
// a pattern that matches nothing, values out of range, a tensor whose shape a type of GGUF cannot hold.
Plan make_plan(const Recipe& recipe, const ModelConfig& config);

}  // namespace neap
