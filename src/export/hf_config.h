// config.json of an output: the source's, edited, or one made from what a GGUF says.
#pragma once

#include <string>

#include "export/output_format.h"
#include "neap/model.h"

namespace neap {

// The text of config.json. A Hugging Face source's own is kept, keys and order, but for
// "quantization_config" and, where the head is quantized, "tie_word_embeddings". For a GGUF it is
// written from the ModelConfig and the special tokens in the metadata, in the words that
// transformers 4 and 5 both read. Throws Error(unsupported) for what config.json has no words for.
std::string output_config(const Checkpoint& checkpoint, const ModelConfig& config,
                          const OutputFormat& format, const WeightLayouts& layers);

}  // namespace neap
