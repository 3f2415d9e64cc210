// What a model's directory holds besides configuration and weights.
#pragma once

#include <string>
#include <vector>

#include "neap/checkpoint.h"

namespace neap {

struct SmallFile {
  std::string name, contents;
};

// The tokenizer's and generation's files of a Hugging Face directory, as they are; those of a GGUF
// are made from its metadata. Nothing where the source has no tokenizer. Licence and model card
// stay with the source: they speak of another model.
std::vector<SmallFile> tokenizer_files(const Checkpoint& checkpoint);

}  // namespace neap
