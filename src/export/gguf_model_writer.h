// A quantized model as one GGUF, alone or in a directory of its own, or there as a split one. Streamed: one module in memory at a time. The format,
// byte by byte: docs/formats/gguf.md.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "export/model_output.h"
#include "export/model_writer.h"

namespace neap {

// Rows of a matrix that no solver decides, in a block type: a GgufTensor, or for MXFP4 an Fp4Tensor.
using GgufRounding = std::function<QuantizedWeight(MatrixView<const float> rows, const GgufLayout& layout)>;

struct GgufContents {
  GgufMix mix = GgufMix::q4_0;  // what the file is called by
  // Modules that write() will bring, by name.
  std::map<std::string, GgufLayout> modules;
  // "model.embed_tokens", "lm_head": rounded by `round`, some thousand rows at a time.
  std::map<std::string, GgufLayout> rounded;
  GgufRounding round;
};

// options.output: a directory that does not exist yet, in which the file is called NAME.gguf after it, or the file
// itself, NAME.gguf, beside which write_file's README.md and quantization_report.json become NAME.gguf.md and
// NAME.gguf.report.json (others are left out). Where options.max_shard_bytes cuts it, a directory holds
// NAME-00001-of-0000N.gguf and so on; a file cannot be cut (Error(argument)). Tensors in
// neither list keep the source's type, vectors become F32; those of a GGUF source are copied byte for byte. Rows of q
// and k go where llama.cpp has them. Beside a matrix in NVFP4 stands its ".scale". Throws as ModelWriter does, Error(unsupported) as gguf_metadata does, and
// Error(argument) for a shape that a layout's blocks do not divide.
std::unique_ptr<ModelOutput> make_gguf_output(const Weights& weights, GgufContents contents, ExportOptions options);

}  // namespace neap
