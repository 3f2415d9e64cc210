// The two sources of a ModelConfig, apart from any checkpoint on disk; read_config (neap/model.h)
// chooses between them.
#pragma once

#include <string>
#include <string_view>

#include "neap/model.h"

namespace neap {

// From the text of a config.json, in the spellings of transformers 4 and 5. A key that is absent or
// null takes transformers' default for the family. `dtype` is left at its default. `file` names the
// culprit in errors. Throws Error(format | unsupported), naming the key.
ModelConfig config_from_json(std::string_view text, const std::string& file);

// From a GGUF: its metadata, and what only its tensors tell (vocabulary, biases, whether the head
// is tied, rope factors). `dtype` is left at its default. Throws as above.
ModelConfig config_from_gguf(const Checkpoint& checkpoint);

// What must hold for a config from either source: every size in its range, and the sizes
// consistent. Throws Error(format).
void check_config(const ModelConfig& config, const std::string& file);

}  // namespace neap
