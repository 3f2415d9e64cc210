// A checkpoint's weights by their Hugging Face names ("model.layers.3.mlp.up_proj.weight"), whatever
// file they come from: GGUF names are translated and llama's q/k row permutation undone; packed
// layers are decoded. Everything downstream knows one set of names and one layout.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/block.h"
#include "neap/checkpoint.h"
#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

// "model.layers.{layer}.self_attn.q_proj" and so on: the module, without ".weight".
std::string module_name(std::int64_t layer, Role role);
// (out, in) of a role's weight.
Shape module_shape(const ModelConfig& config, Role role);

class Weights {
 public:
  // Checks that every tensor that `config` asks for is there with its shape, and that nothing unknown
  // is left over (rotary buffers excepted). Throws Error naming the tensor.
  Weights(Checkpoint checkpoint, ModelConfig config);

  const Checkpoint& checkpoint() const { return checkpoint_; }
  const ModelConfig& config() const { return config_; }

  Matrix<float> weight(std::int64_t layer, Role role) const;          // (out, in)
  std::vector<float> bias(std::int64_t layer, Role role) const;       // out values, or empty
  Block block(std::int64_t layer, Precision precision) const;         // all of a block, ready to run
  std::vector<float> final_norm() const;
  // Rows of the embedding, one per token id. out: (ids.size(), hidden).
  void embed(std::span<const TokenId> ids, MatrixView<float> out) const;
  Matrix<float> head() const;                                         // (vocabulary, hidden)

 private:
  Checkpoint checkpoint_;
  ModelConfig config_;
};

}  // namespace neap
