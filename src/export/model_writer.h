// A quantized model as a Hugging Face directory, in the format that it is given. Streamed: one
// module in memory at a time. The formats, byte by byte: docs/formats.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "export/model_output.h"
#include "model/weights.h"
#include "neap/matrix.h"
#include "neap/progress.h"

namespace neap {

struct ExportOptions {
  std::string output;      // a directory that does not exist yet
  bool overwrite = false;  // ... or a model's directory, replaced when the new one is complete
  // Tensors' bytes in a file, at most. Unset: 5 GiB in a Hugging Face directory, one file as GGUF.
  std::optional<std::uint64_t> max_shard_bytes = {};
  ProgressCallback progress = {};  // stages "writing" and "verifying"
  // The source is quantized already, and its very values are written: packed modules that are not announced are an
  // Error, and block types of a GGUF that stay dense become F32, exactly.
  bool from_quantized = false;
};

class ModelWriter final : public ModelOutput {
 public:
  // layers: every module that will be quantized, by name ("model.layers.0.mlp.up_proj", "lm_head"),
  // with its layout. All other tensors are copied from the source: byte for byte from safetensors;
  // from a GGUF as F32 (vectors), in their own type (F16, BF16, F32 matrices) or as F16 (block
  // types, which F16 rounds: see notes()). A quantized "lm_head" is untied from the embedding.
  //
  // All files are created and their space reserved here, beside `output` under a temporary name, so
  // that a full disk is found before the work. Throws Error(argument): `output` exists, or is the
  // source; a module that the model does not have; a layout that the format cannot hold.
  // Error(unsupported): the source is quantized already. Error(io).
  ModelWriter(const Weights& weights, WeightLayouts layers,
              std::unique_ptr<const OutputFormat> format, ExportOptions options);
  ~ModelWriter() override;
  ModelWriter(const ModelWriter&) = delete;
  ModelWriter& operator=(const ModelWriter&) = delete;

  void write(const std::string& module, const DecidedLayer& layer) override;
  void write_dense(const std::string& tensor, MatrixView<const float> values) override;
  void write_file(const std::string& name, const std::string& contents) override;
  std::uint64_t tensor_bytes() const override;
  double bits_per_weight() const override;
  void close() override;
  std::string closed_path() const override;
  const std::map<std::string, std::uint64_t>& tensor_digests() const override;
  void commit() override;
  const std::vector<std::string>& notes() const override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What every output asks of its source: that it is not quantized already, nor what would be replaced. Throws
// Error(unsupported | argument).
void check_source(const Weights& weights);
void check_output(const Checkpoint& checkpoint, const std::string& output);

}  // namespace neap
