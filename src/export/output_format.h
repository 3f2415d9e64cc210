// What a format has to say about a quantized model, for ModelWriter, which knows none: the tensors
// that stand for a module and their bytes, those of the model as a whole, and the words in
// config.json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "codec/block_scaled.h"
#include "codec/gptq_pack.h"
#include "codec/quantized_weight.h"
#include "codec/stored_tensor.h"
#include "io/safetensors_writer.h"
#include "model/neap_config.h"
#include "neap/model.h"

namespace neap {

// Quantized modules by name.
using WeightLayouts = std::map<std::string, WeightLayout>;

// A decided layer and, where its inputs are encoded with a scale that calibration found, that
// scale.
struct DecidedLayer {
  QuantizedWeight weight;
  std::optional<float> input_scale;
};

class OutputFormat {
 public:
  struct Tensor {
    TensorSpec spec;
    std::vector<std::byte> bytes;
  };

  virtual ~OutputFormat() = default;

  // Throws Error(argument) naming the module where the format cannot hold a (rows, cols) weight of
  // this layout. The functions below are called for what has passed.
  virtual void check(const std::string& module, const WeightLayout& layout,
                     const Shape& shape) const = 0;
  // The tensors that stand in a file for a module, and their bytes in the same order.
  virtual std::vector<PartInfo> parts(const WeightLayout& layout, const Shape& shape) const = 0;
  virtual std::vector<std::vector<std::byte>> encode(const DecidedLayer& layer) const = 0;
  // The tensors that all modules share.
  virtual std::vector<Tensor> shared() const { return {}; }
  // The value of "quantization_config" in config.json.
  virtual nlohmann::ordered_json quantization_config(const ModelConfig& config,
                                                     const WeightLayouts& layers) const = 0;
  // The name of a file of its own that repeats it for older readers; empty: none.
  virtual std::string config_file() const { return {}; }
};

// compressed-tensors' formats: `pack-quantized` for GroupLayout (docs/formats/compressed-tensors.md),
// `nvfp4-pack-quantized` and `mxfp4-pack-quantized` for Fp4Layout (docs/formats/block-scaled.md).
// inputs: what those of all modules are meant to be rounded to, without the global scale; layers come
// with an input scale if and only if that is NVFP4. Its group must divide modules' inputs, and the head
// is then refused.
std::unique_ptr<const OutputFormat> make_compressed_tensors_format(std::optional<BlockScaledInputs> inputs = {});
// GPTQ's form (docs/formats/gptq.md), for GroupLayout alone, with scales of F16. The head is refused.
std::unique_ptr<const OutputFormat> make_gptq_format(GptqVersion version);
// Neap's own container, for LobcqLayout alone (docs/formats/neap.md). Layers come with an input
// scale if and only if `inputs` is fixed.
std::unique_ptr<const OutputFormat> make_neap_format(CodebookSet set, InputScales inputs);

}  // namespace neap
