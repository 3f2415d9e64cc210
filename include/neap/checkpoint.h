// A model on disk, mapped and never copied whole: a Hugging Face directory (safetensors, one file
// or sharded), a GGUF file, or a repository found in the local hub cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "neap/tensor.h"

namespace neap {

class GgufFile;  // io/gguf.h

class Checkpoint {
 public:
  enum class Kind { huggingface, gguf };

  // `model` is a directory with config.json and model.safetensors (or its index and shards), a GGUF
  // file (known by its first bytes; of a split model, the first file) or a directory without
  // config.json whose only model that is, or ORG/NAME[@REVISION],
  // which is looked up offline in HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub. Headers are
  // read and checked whole, the index against its shards both ways; tensor data is mapped. Throws
  // Error(io | format | unsupported).
  static Checkpoint open(const std::string& model);

  Kind kind() const;
  // The directory or file that `model` was resolved to.
  const std::string& path() const;
  // Where config.json, tokenizer.json and their like would be: path() itself, or a GGUF's folder.
  std::string folder() const;

  // In file order, shards one after another.
  const std::vector<TensorInfo>& tensors() const;
  // Null if there is no such tensor.
  const TensorInfo* find(std::string_view name) const;
  // Throws Error(format) naming the model and the tensor that it lacks.
  const TensorInfo& info(std::string_view name) const;

  // The tensor's bytes as they lie in the file (or those of a part of it: same name, offset and bytes
  // narrowed); valid as long as any copy of this checkpoint lives.
  std::span<const std::byte> bytes(const TensorInfo& tensor) const;

  // Rows [first, first + count) of a tensor seen as a matrix (a vector is one row; leading
  // dimensions are flattened), as floats: F64, F32, F16, BF16 and GGUF's block types, dequantized
  // bit-equal to the reference `gguf` package. out: (count, cols), row-major. Deterministic; runs
  // on the calling thread's team. Throws Error(unsupported) for integers and 8-bit floats. The rows
  // must be there and `tensor` one of tensors() (NEAP_CHECK).
  void read_rows(const TensorInfo& tensor, std::int64_t first, std::int64_t count,
                 float* out) const;
  // All of a tensor as floats.
  std::vector<float> read(const TensorInfo& tensor) const;

  // The text of config.json; empty for a GGUF.
  const std::string& config_json() const;
  // Metadata of a GGUF; null for a Hugging Face directory.
  const GgufFile* gguf() const;

  // Tells the kernel that the pages of a tensor, or of a part of it, are no longer needed (they stay readable).
  void release(const TensorInfo& tensor) const;

 private:
  struct Impl;
  explicit Checkpoint(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;  // copies share the mapping
};

}  // namespace neap
