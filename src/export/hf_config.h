// config.json of an output: the source's, edited, or one made from what a GGUF says.
#pragma once

#include <map>
#include <string>

#include "neap/codec.h"
#include "neap/model.h"

namespace neap {

// layers: quantized modules by name.
using LayerLayouts = std::map<std::string, GroupLayout>;

// The text of config.json. A Hugging Face source's own is kept, keys and order, but for
// "quantization_config" and, where the head is quantized, "tie_word_embeddings". For a GGUF it is
// written from the ModelConfig and the special tokens in the metadata, in the words that
// transformers 4 and 5 both read. Throws Error(unsupported) for what config.json has no words for.
std::string output_config(const Checkpoint& checkpoint, const ModelConfig& config,
                          const LayerLayouts& layers);

}  // namespace neap
