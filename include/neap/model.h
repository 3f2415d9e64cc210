// What a model is (ModelConfig), how anything that maps tokens to logits is seen by evaluation
// (LanguageModel), and how a checkpoint becomes one (load_model).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "neap/checkpoint.h"
#include "neap/codebooks.h"
#include "neap/matrix.h"
#include "neap/tokenizer.h"

namespace neap {

struct RopeScaling {
  enum class Kind { none, linear, llama3 };
  Kind kind = Kind::none;
  double factor = 1;
  double low_frequency = 1, high_frequency = 4;  // llama3
  std::int64_t original_positions = 8192;        // llama3

  bool operator==(const RopeScaling&) const = default;
};

// What differs from layer to layer.
struct LayerSwitches {
  bool rope = true;         // SmolLM3 leaves it out in every fourth layer
  std::int64_t window = 0;  // attention sees this many positions, itself included; 0: all before

  bool operator==(const LayerSwitches&) const = default;
};

struct ModelConfig {
  // A row of the architecture table: "llama", "mistral", "qwen2", "qwen3", "smollm3".
  std::string family;
  std::int64_t layers = 0, hidden = 0, intermediate = 0, vocabulary = 0;
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t max_positions = 0;
  double norm_epsilon = 1e-5, rope_theta = 10000;
  RopeScaling rope_scaling;
  std::vector<float> rope_factors;  // head_dim / 2 divisors of the frequencies (GGUF), or empty
  bool qkv_bias = false, output_bias = false, mlp_bias = false, qk_norm = false, tied_head = false;
  std::vector<LayerSwitches> switches;  // one per layer
  // Type of the checkpoint's embedding: f32, f16 or bf16; f16 where that is none of them (GGUF's
  // block types, whose scales are f16).
  DType dtype = DType::bf16;

  bool operator==(const ModelConfig&) const = default;
};

// From config.json or GGUF metadata. Throws Error(unsupported) for an architecture that is not in
// the table, or a setting that would change the result and is not implemented; Error(format) for a
// missing or ill-typed value.
ModelConfig read_config(const Checkpoint& checkpoint);

// Arithmetic of the matrix products. Norms, softmax, rope and the residual stream are fp32 in both.
enum class Precision { f32, bf16 };
// What a product is computed in, as far as the speed of machines goes. Where bf16 is multiplied as
// fp32 for want of anything better, it is f32.
enum class Arithmetic { f32, bf16, int8 };

// Tokens in, logits out. Not thread-safe: one call at a time, each parallel inside.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const ModelConfig& config() const = 0;

  // Runs windows of equal length, each from position 0 with causal attention. Weights are visited
  // once per call, so several windows at once cost less. tokens: (windows, length), row-major, each
  // in [0, vocabulary), else Error(argument). states: (windows * length, hidden), what the head
  // reads (final norm applied). Same bits at any thread count and any number of windows.
  virtual void forward(std::span<const TokenId> tokens, std::size_t length,
                       MatrixView<float> states) = 0;
  // logits: (rows of states, vocabulary). The bits of a row do not depend on the others.
  virtual void head(MatrixView<const float> states, MatrixView<float> logits) = 0;
};

// What the linear layers of the blocks read. The head's inputs are never encoded.
enum class InputCoding {
  stored,  // as the checkpoint says: 16-bit activations, or those of its own 4-bit format (W4A4)
  keep,    // 16-bit activations, whatever it says (W4A16)
  lobcq,   // LO-BCQ in every layer, whatever its weights are, with a scale per token
  nvfp4,   // NVFP4 likewise, with a global scale per token
  mxfp4,
  int4,    // in groups of 64
};
InputCoding input_coding_from_name(const std::string& name);  // throws Error(argument)
std::string name_of(InputCoding coding);

// What attention keeps keys and values in, also within a window. int8: one scale for each head of each
// position, the largest magnitude at 127.
enum class KvType { f32, bf16, int8 };
KvType kv_type_from_name(const std::string& name);  // throws Error(argument)
std::string name_of(KvType type);

// Runs layers from their packed bytes: packed_linears of neap/runtime.h.
class PackedLinears;

struct LoadOptions {
  Precision precision = Precision::bf16;
  // Blocks are kept in memory, once read, if all of them fit in this many bytes (packed ones: as many times the
  // first), else each is read anew when its turn comes; so is the head if it doesn't fit beside them. A packed
  // embedding is always kept, and counts first. Activations come on top. The result is the same. 0: half of the
  // machine's memory.
  std::uint64_t max_memory = 0;
  InputCoding inputs = InputCoding::stored;
  // Of inputs in LO-BCQ. A search loses less, and encoding takes longer; Error(argument) where there are
  // no such inputs.
  ScaleChoice input_scales = ScaleChoice::maximum;
  std::optional<KvType> kv_type = {};  // unset: the precision's own
  // With InputCoding::lobcq, how; unset: as the checkpoint has it, or with the universal codebooks.
  std::optional<CodebookSet> codebooks = {};
  // Without, quantized layers are decoded when their block is read.
  std::shared_ptr<const PackedLinears> packed = {};
};

// A model ready to run, from any kind of checkpoint: dense, GGUF, or quantized by Neap
// (compressed-tensors' pack-quantized, nvfp4-pack-quantized and mxfp4-pack-quantized, simulated:
// weights dequantized when a block is read, inputs rounded on the fly where the format says so; LO-BCQ
// with encoded inputs, in the format's own integer arithmetic). Throws Error;
// every tensor that the architecture asks for is checked for presence and shape here, not in the
// middle of a run.
std::unique_ptr<LanguageModel> load_model(const Checkpoint& checkpoint,
                                          const LoadOptions& options = {});

}  // namespace neap
