// Streams tensors into a GGUF file, version 3 (the format: io/gguf.h), or into the several files of a split model, whose
// headers are written before the first byte of data, so that nothing is held back and tensors come in any order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/gguf.h"
#include "io/shards.h"
#include "io/writer.h"

namespace neap {

using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

inline constexpr std::uint64_t kGgufAlignment = 32;

// What stands before the data of a file with these tensors, padded to the alignment. The data is each tensor's, in this order, padded
// likewise. Throws as GgufWriter's constructor.
std::string gguf_header(const GgufMetadata& metadata, const std::vector<TensorSpec>& tensors);

class GgufWriter {
 public:
  static constexpr std::uint64_t kOneFile = ~std::uint64_t{0};

  // Creates STEM.gguf, or, where that would hold more than max_file_bytes of tensors (a larger one has a file to itself),
  // STEM-00001-of-0000N.gguf and so on, as llama.cpp's gguf-split has them: metadata in the first, and in each where it
  // stands among the others. Reserves all space. Tensors lie in the order given, at the default alignment;
  // shapes are row-major, the last dimension a whole number of blocks. Throws Error(argument) naming a tensor
  // whose name is longer than 63 bytes, which ggml has no room for, or for more than 65535 files; Error(io). NEAP_CHECKs
  // that names and keys differ.
  GgufWriter(const std::string& stem, const GgufMetadata& metadata, const std::vector<TensorSpec>& tensors,
             std::uint64_t max_file_bytes = kOneFile);

  // A run of a tensor's bytes, `offset` from its first; runs come in any order, each byte once.
  void write(const std::string& name, std::span<const std::byte> bytes, std::uint64_t offset = 0);
  // Syncs and closes all files. NEAP_CHECKs that no tensor lacks a byte.
  void finish();

  std::uint64_t tensor_bytes() const { return tensor_bytes_; }
  // What readers open.
  const std::string& first_file() const { return files_.front().path(); }

 private:
  struct Place {
    std::size_t file;
    std::uint64_t offset;  // in its file
    std::uint64_t bytes, written = 0;
  };
  void create_file(const std::string& path, const GgufMetadata& metadata, const std::vector<TensorSpec>& tensors);

  std::uint64_t tensor_bytes_ = 0;
  std::map<std::string, Place> places_;
  std::vector<OutputFile> files_;
};

}  // namespace neap
