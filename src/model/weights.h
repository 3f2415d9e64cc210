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
#include "model/architecture.h"
#include "model/block.h"
#include "model/packed_modules.h"
#include "neap/checkpoint.h"
#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

// "model.layers.{layer}.self_attn.q_proj" and so on: the module, without ".weight".
std::string module_name(std::int64_t layer, Role role);
// (out, in) of a role's weight.
Shape module_shape(const ModelConfig& config, Role role);
bool module_has_bias(const ModelConfig& config, Role role);

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
  Matrix<float> weight(std::int64_t layer, Role role) const;     // (out, in)
  // A module ("model.layers.0.mlp.up_proj") as it is stored, or nothing if that is dense.
  std::optional<QuantizedWeight> packed_weight(const std::string& module) const;
  std::vector<float> bias(std::int64_t layer, Role role) const;  // out values, or empty
  Block block(std::int64_t layer, Precision precision) const;    // all of a block, ready to run
  std::vector<float> final_norm() const;
  // Rows of the embedding, one per token id. out: (ids.size(), hidden). Throws Error(argument) for
  // an id that is not in [0, vocabulary).
  void embed(std::span<const TokenId> ids, MatrixView<float> out) const;
  Matrix<float> head() const;  // (vocabulary, hidden)
  // The same in parts of at most kHeadPart rows, in order, for heads that are larger than a block.
  static constexpr std::int64_t kHeadPart = 8192;
  void visit_head(
      const std::function<void(std::int64_t first, MatrixView<const float> rows)>& visit) const;

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
  void check_left_over(const Names& known) const;
  void check_redundant_head() const;

  // Of a module by its file name; null if it is stored dense.
  const PackedGrid* packed(const std::string& module) const;
  QuantizedWeight decode(const std::string& module, const PackedGrid& grid) const;
  std::vector<float> vector(const std::string& name) const;

  Checkpoint checkpoint_;
  ModelConfig config_;
  const Architecture* family_;
  bool gguf_;
  PackedModules packed_;
};

}  // namespace neap
