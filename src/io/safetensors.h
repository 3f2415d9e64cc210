// The safetensors container: u64 little-endian header length N, N bytes of JSON (name -> dtype,
// shape, data_offsets), then the tensors' bytes, tiling the rest of the file. Little-endian,
// row-major. Source: https://huggingface.co/docs/safetensors, "Format". As strict as the reference
// reader, and stricter where that one lets duplicate or unknown keys pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "neap/tensor.h"

namespace neap {

// Of the JSON, as in the reference reader: larger ones are an attack.
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;              // in the order of their data
  std::map<std::string, std::string> metadata;  // "__metadata__"
  std::uint64_t data_start = 0;                 // bytes from the start of the file
};

// Reads and checks the header of a whole file, `file`, whose path is `path`. Throws Error(format),
// or Error(unsupported) for a dtype that DType does not have. Afterwards every tensor's bytes lie
// in the file, agree with its dtype and shape, and together cover the data without hole or overlap.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& path);

// File name -> names of the tensors that "weight_map" of a model.safetensors.index.json says it
// holds. `text` is the index, `path` its path. Throws Error(format) also for a file name with a '/'
// in it.
using ShardMap = std::map<std::string, std::vector<std::string>>;
ShardMap parse_safetensors_index(std::string_view text, const std::string& path);

}  // namespace neap
