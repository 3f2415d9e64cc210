// A quantized model as a Hugging Face directory, in the format that it is given. Streamed: one
// module in memory at a time. The formats, byte by byte: docs/formats.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "export/output_format.h"
#include "model/weights.h"
#include "neap/matrix.h"
#include "neap/progress.h"

namespace neap {

struct ExportOptions {
  std::string output;      // a directory that does not exist yet
  bool overwrite = false;  // ... or a model's directory, replaced when the new one is complete
  std::uint64_t max_shard_bytes = std::uint64_t{5} << 30;
  ProgressCallback progress = {};  // stages "writing" and "verifying"
};

class ModelWriter {
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
  // Without finish() before it, removes everything again.
  ~ModelWriter();
  ModelWriter(const ModelWriter&) = delete;
  ModelWriter& operator=(const ModelWriter&) = delete;

  // Modules come in any order, each once, with the layout that was announced.
  void write(const std::string& module, const DecidedLayer& layer);
  // Instead of the source's values of a tensor that stays dense
  // ("model.layers.0.input_layernorm.weight"; a vector is one row), rounded to the type that it is
  // stored in.
  void write_dense(const std::string& tensor, MatrixView<const float> values);
  // A file of the caller's beside the weights ("quantization_report.json").
  void write_file(const std::string& name, const std::string& contents);

  // Known from the beginning: what the tensors take, all and in total bits per weight of the model.
  std::uint64_t tensor_bytes() const;
  double bits_per_weight() const;

  // Copies what was not written, syncs, reads every tensor back and compares it with what was
  // meant, puts configuration and tokenizer beside it, and renames the whole to `output` as the
  // last act. NEAP_CHECKs that every announced module was written. Throws Error(io | cancelled).
  void finish();

  // Facts for whoever reads the output of the program: what was rounded, what was left out and why.
  const std::vector<std::string>& notes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace neap
