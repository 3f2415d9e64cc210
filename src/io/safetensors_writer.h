// Streams tensors into safetensors files (the format: io/safetensors.h) whose headers are computed
// before the first byte of data, so that nothing is held back and tensors come in any order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/shards.h"
#include "io/writer.h"

namespace neap {

class SafetensorsWriter {
 public:
  // model.safetensors in `folder`, or, where that would exceed max_shard_bytes, numbered shards of
  // at most that size (a larger tensor has one to itself) and model.safetensors.index.json. Tensors
  // go to shards in the order given. `metadata`: "__metadata__" of each file. Reserves all space.
  // Throws Error(io); NEAP_CHECKs that names differ and types are plain ones.
  SafetensorsWriter(std::string folder, const std::vector<TensorSpec>& tensors,
                    std::uint64_t max_shard_bytes,
                    const std::map<std::string, std::string>& metadata);

  // A run of a tensor's bytes, `offset` from its first; runs come in any order, each byte once.
  void write(const std::string& name, std::span<const std::byte> bytes, std::uint64_t offset = 0);
  // Syncs and closes the files and then writes the index. NEAP_CHECKs that no tensor lacks a byte.
  void finish();

  std::uint64_t tensor_bytes() const { return tensor_bytes_; }

 private:
  struct Place {
    std::size_t shard;
    std::uint64_t offset;  // in its file
    std::uint64_t bytes, written = 0;
  };
  void create_shard(const std::string& file, std::vector<TensorSpec> tensors,
                    const std::map<std::string, std::string>& metadata);

  std::string folder_;
  std::uint64_t tensor_bytes_ = 0;
  std::vector<OutputFile> files_;
  std::map<std::string, Place> places_;
};

}  // namespace neap
