// A checkpoint's weights by their Hugging Face names ("model.layers.3.mlp.up_proj.weight"),
// whatever file they come from: GGUF names are translated and llama's q/k row permutation undone;
// packed layers are decoded. Everything downstream knows one set of names and one layout.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "codec/quantized_weight.h"
#include "codec/stored_tensor.h"
#include "model/architecture.h"
#include "model/block.h"
#include "model/coded_linear.h"
#include "model/neap_config.h"
#include "model/packed_linears.h"
#include "model/packed_modules.h"
#include "neap/checkpoint.h"
#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

// "model.layers.{layer}.self_attn.q_proj" and so on: the module, without ".weight".
std::string module_name(std::int64_t layer, Role role);
// "blk.{layer}.attn_q.weight": what GGUF calls that module's weight.
std::string gguf_weight_name(std::int64_t layer, Role role);
// Of a GGUF's matrix in NVFP4, an F32 that all its values are multiplied by: "blk.0.attn_q.scale" beside
// "blk.0.attn_q.weight"; where it is not there, 1. And one for its inputs, where those are to have 4 bits.
inline constexpr const char *kGgufScale = ".scale", *kGgufInputScale = ".input_scale";
// (out, in) of a role's weight.
Shape module_shape(const ModelConfig& config, Role role);
bool module_has_bias(const ModelConfig& config, Role role);

// How the inputs of a module ("model.layers.0.mlp.up_proj") are encoded; nothing: not at all.
using InputCoder = std::function<std::optional<InputEncoding>(const std::string& module)>;

class Weights {
 public:
  // Checks that every tensor that `config` asks for is there with its shape, in a type that can be
  // read, and that nothing unknown is left over (rotary buffers excepted, and a tied head that is
  // equal to the embedding). Throws Error naming the tensor.
  Weights(Checkpoint checkpoint, ModelConfig config);

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const ModelConfig& config() const { return config_; }

  // Reading releases the file's pages: what is read twice is read from disk or the page cache
  // again.
  Matrix<float> weight(std::int64_t layer, Role role) const;  // (out, in)
  // A module ("model.layers.0.mlp.up_proj") as it is stored, or nothing if that is dense.
  std::optional<QuantizedWeight> packed_weight(const std::string& module) const;
  // What the checkpoint says of a module's inputs.
  std::optional<InputEncoding> stored_inputs(const std::string& module) const;
  // LO-BCQ's codebooks in the checkpoint; nothing where it has none for activations.
  std::optional<CodebookSet> codebooks() const;
  const Codebooks& weight_codebooks() const { return weight_codebooks_; }  // empty where nothing is LO-BCQ
  std::vector<float> bias(std::int64_t layer, Role role) const;  // out values, or empty
  // All of a block, ready to run. Without `inputs` its layers read what they are given; without
  // `packed` they are decoded.
  Block block(std::int64_t layer, Precision precision, const InputCoder& inputs = {},
              const PackedLinears* packed = nullptr) const;
  std::vector<float> final_norm() const;
  // Throws Error(argument) for an id that is not in [0, vocabulary).
  void require_in_vocabulary(std::span<const TokenId> ids) const;
  // Rows of the embedding, one per token id, of which the same is required. out: (ids.size(), hidden).
  void embed(std::span<const TokenId> ids, MatrixView<float> out) const;
  Matrix<float> head() const;  // (vocabulary, hidden)
  // The same in parts of at most kHeadPart rows, in order, for heads that are larger than a block.
  static constexpr std::int64_t kHeadPart = 8192;
  using VisitRows = std::function<void(std::int64_t first, MatrixView<const float> rows)>;
  void visit_head(const VisitRows& visit) const;
  void visit_embedding(const VisitRows& visit) const;

 private:
  using Names = std::unordered_set<std::string>;

  // Names as the file has them.
  std::string file_name(const NamePair& pair) const;
  std::string file_name(std::int64_t layer, const NamePair& pair) const;
  void check_all();
  void check_tensor(const std::string& name, const Shape& shape, Names& known) const;
  void check_module(const std::string& module, const Shape& shape, Names& known) const;
  void check_packed(const std::string& module, const Shape& shape, const PackedGrid& grid,
                    Names& known) const;
  void check_gptq(const std::string& module, const Shape& shape, const GptqGrid& gptq, Names& known) const;
  void check_fp4(const std::string& module, const Shape& shape, const Fp4Layout& layout, Names& known) const;
  void check_gguf_scales(const std::string& module, Names& known) const;
  void check_divides(const std::string& module, const Shape& shape, std::int64_t group) const;
  void check_parts(const std::string& module, const std::vector<PartInfo>& parts, Names& known) const;
  void check_inputs(const std::string& module, const Shape& shape, const BlockScaledInputs& inputs,
                    Names& known) const;
  void check_lobcq(const std::string& module, const Shape& shape, Names& known) const;
  void check_stored_shape(const std::string& module, const Shape& shape) const;
  void read_codebooks(Names& known);
  void check_left_over(const Names& known) const;
  void check_redundant_head() const;

  StoredTensor stored(const std::string& name) const;
  float input_scale(const std::string& module) const;
  float gguf_scale(const std::string& module) const;  // what all weights of a matrix are multiplied by
  bool interleaved(Role role) const;  // whether the file has its rows in GGUF's order
  std::vector<std::byte> without_interleaving(const StoredTensor& tensor) const;
  // In a block type that kernels may take; nothing for others. Rows in Hugging Face's order.
  std::optional<QuantizedWeight> gguf_weight(std::int64_t layer, Role role) const;
  std::unique_ptr<const Linear> linear(std::int64_t layer, Role role, Precision precision,
                                       const InputCoder& inputs, const PackedLinears* packed) const;
  std::unique_ptr<const Linear> plain_linear(std::int64_t layer, Role role, Precision precision,
                                             const PackedLinears& packed) const;
  // In a format of compressed-tensors, by file name; null if it is not.
  const PackedModule* packed(const std::string& module) const;
  QuantizedTensor decode(const std::string& module, const PackedGrid& grid) const;
  QuantizedTensor decode(const std::string& module, const GptqGrid& gptq) const;
  Fp4Tensor decode(const std::string& module, const Fp4Layout& layout) const;
  LobcqTensor decode_lobcq(const std::string& module) const;
  std::vector<float> vector(const std::string& name) const;
  // Of a matrix of the vocabulary: as `codes`, or dense.
  void visit_rows(const std::string& module, const std::optional<QuantizedWeight>& codes,
                  const VisitRows& visit) const;

  Checkpoint checkpoint_;
  ModelConfig config_;
  const Architecture* family_;
  bool gguf_;
  PackedModules packed_;
  std::optional<NeapConfig> neap_;  // instead of packed_
  Codebooks weight_codebooks_, activation_codebooks_;
  std::shared_ptr<const LobcqEncoder> input_encoder_;  // where inputs are to be encoded
};

}  // namespace neap
