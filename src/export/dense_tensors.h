// The tensors of a model that are not quantized, as they go into the output: under Hugging Face's
// names, in Hugging Face's order of rows, in a plain type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors_writer.h"
#include "model/weights.h"

namespace neap {

struct DenseTensor {
  TensorSpec spec;
  DType source_type = DType::f32;  // differs from spec.type where that rounds or widens
  // Calls sink with runs of the tensor's bytes, in order.
  std::function<void(const std::function<void(std::span<const std::byte>)>& sink)> stream;
};

// What stands in the output, in the order of a forward pass: a quantized module, or a tensor.
struct OutputItem {
  std::string module;  // empty for a tensor
  DenseTensor tensor;  // empty for a module
  bool is_module() const { return !module.empty(); }
};

// `quantized`: names of modules. Tensors of a safetensors source are copied byte for byte, those
// that the architecture does not know included (at the end), but for what belongs to a quantized module of the
// source. Of a GGUF, vectors become F32; matrices keep F16, BF16 and F32, and block types become
// `block_type` (F16, F32). `weights` must outlive the result.
std::vector<OutputItem> list_output(const Weights& weights, const std::set<std::string>& quantized, DType block_type = DType::f16);

// Every linear module of an architecture, "lm_head" included, in the order of a forward pass.
std::vector<std::string> linear_modules(const ModelConfig& config);
// (out, in) of one of them.
Shape linear_shape(const ModelConfig& config, const std::string& module);

// A tensor's bytes in runs of a few megabytes, in order, each unmapped after it was visited: the
// size of a tensor must not show in this process' memory.
void visit_bytes(const Checkpoint& checkpoint, const TensorInfo& tensor,
                 const std::function<void(std::span<const std::byte>)>& visit);

// `count` floats as they lie in a file of `type` (F32, F16, BF16), rounded to nearest even. Throws
// Error(data) naming `tensor` where a finite value does not fit.
std::vector<std::byte> to_bytes(const float* values, std::size_t count, DType type,
                                const std::string& tensor);

}  // namespace neap
