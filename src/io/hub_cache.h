// Models that some other program has already downloaded from the Hugging Face hub. Only the local
// cache is read; nothing is ever downloaded. Layout:
//   <cache>/models--ORG--NAME/refs/<branch or tag>    a file with a commit
//   <cache>/models--ORG--NAME/snapshots/<commit>/     links to the files
// Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace neap {

struct HubName {
  std::string repository;  // "ORG/NAME"
  std::string revision;    // branch, tag or commit; "main" where none was given
};

// `text` as ORG/NAME[@REVISION], or nothing if it cannot be one (a path with more parts, "..", a
// file name with .gguf or .safetensors at its end).
std::optional<HubName> parse_hub_name(std::string_view text);

// Where the cache is: HF_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else
// ~/.cache/huggingface/hub, as huggingface_hub resolves it. Reads the environment.
std::string hub_cache_folder();

// The snapshot's folder. Throws Error(io) saying where it looked and which revisions are there.
std::string find_in_hub_cache(const HubName& name, const std::string& cache_folder);

}  // namespace neap
