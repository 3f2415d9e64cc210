// What a GGUF says beside its tensors: the model's sizes, its tokenizer, what made it.
#pragma once

#include <string>
#include <vector>

#include "io/gguf_writer.h"
#include "model/weights.h"
#include "neap/codec.h"

namespace neap {

// name: general.name. Of a GGUF source everything is carried over but what speaks of its own types, alignment and
// parts; of a Hugging Face source it is made from configuration and tokenizer files, in llama.cpp's words. `notes`
// grows by what was left out. Throws Error(unsupported) for what GGUF cannot say: a tokenizer of another kind,
// layers without rope other than every fourth, biases that llama.cpp has no tensor for.
GgufMetadata gguf_metadata(const Weights& weights, GgufMix mix, const std::string& name,
                           std::vector<std::string>& notes);

}  // namespace neap
