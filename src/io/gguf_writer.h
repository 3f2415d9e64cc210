// Streams tensors into a GGUF file, version 3 (the format: io/gguf.h), whose header is written before the first
// byte of data, so that nothing is held back and tensors come in any order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/gguf.h"
#include "io/safetensors_writer.h"
#include "io/writer.h"

namespace neap {

using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

class GgufWriter {
 public:
  // Creates `path` and reserves all its space. Tensors lie in the order given, at the default alignment of 32;
  // shapes are row-major, the last dimension a whole number of blocks. Throws Error(argument) naming a tensor
  // whose name is longer than 63 bytes, which ggml has no room for, and Error(io). NEAP_CHECKs that names and
  // keys differ.
  GgufWriter(const std::string& path, const GgufMetadata& metadata, const std::vector<TensorSpec>& tensors);

  // A run of a tensor's bytes, `offset` from its first; runs come in any order, each byte once.
  void write(const std::string& name, std::span<const std::byte> bytes, std::uint64_t offset = 0);
  // Syncs and closes. NEAP_CHECKs that no tensor lacks a byte.
  void finish();

  std::uint64_t tensor_bytes() const { return tensor_bytes_; }
  std::uint64_t file_bytes() const { return file_bytes_; }

 private:
  struct Place {
    std::uint64_t offset;  // in the file
    std::uint64_t bytes, written = 0;
  };

  std::uint64_t tensor_bytes_ = 0, file_bytes_ = 0;
  std::map<std::string, Place> places_;
  std::optional<OutputFile> file_;
};

// What a tensor of this type and shape takes.
std::uint64_t stored_bytes(const TensorSpec& tensor);

}  // namespace neap
