// Who a model is, from what lies beside its weights: for the name in a GGUF and for model cards.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "neap/checkpoint.h"

namespace neap {

struct SourceIdentity {
  std::string name;        // "SmolLM2-135M-Instruct": never a path
  std::string repository;  // "HuggingFaceTB/SmolLM2-135M-Instruct" on the hub; empty: not known
  std::string revision;    // a commit; empty: not known
  std::string license, license_name, license_link;  // as the source's card or metadata states them
  std::vector<std::string> languages;
};

// A directory of the hub cache tells its repository and commit, any other its own name; README.md's front matter the
// rest, and the base model where it is the card of a quantized one. Of a GGUF, its metadata. What is not stated stays
// empty; a card that cannot be read states nothing.
SourceIdentity identify(const Checkpoint& checkpoint);

// The same from the text of a README.md, without name and revision.
SourceIdentity identity_in_card(std::string_view readme);

}  // namespace neap
