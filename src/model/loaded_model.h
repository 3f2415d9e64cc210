// What load_model returns: a checkpoint's blocks, run one after another, in memory or read in turn.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "model/block.h"
#include "model/kv_cache.h"
#include "model/weights.h"
#include "neap/model.h"

namespace neap {

class LoadedModel final : public LanguageModel {
 public:
  LoadedModel(Weights weights, const LoadOptions& options);

  const ModelConfig& config() const override { return weights_.config(); }
  void forward(std::span<const TokenId> tokens, std::size_t length,
               MatrixView<float> states) override;
  void head(MatrixView<const float> states, MatrixView<float> logits) override;

  KvCache make_cache(std::size_t sequences) const { return {config(), precision_, sequences}; }
  // As forward, for tokens that come after those in the cache, the same number for each of its
  // sequences; they are in the cache afterwards. tokens: (sequences, new tokens); states: one row
  // per token.
  void forward_cached(std::span<const TokenId> tokens, KvCache& cache, MatrixView<float> states);

  // Whether blocks (and the head) stay in memory once they are read.
  bool keeps_blocks() const { return keeps_blocks_; }
  bool keeps_head() const { return keeps_head_; }

 private:
  // Runs what it is given on every block in order, each read when its turn comes unless it is kept.
  void visit_blocks(const std::function<void(const Block&)>& visit);
  const RopeTable& rope(std::size_t positions);
  void normalize(MatrixView<float> states) const;

  Weights weights_;
  Precision precision_;
  InputCoder inputs_;
  std::shared_ptr<const PackedLinears> packed_;
  bool keeps_blocks_, keeps_head_;
  std::vector<std::unique_ptr<const Block>> blocks_;  // null until read; all null unless kept
  std::vector<std::unique_ptr<const Linear>>
      head_;  // parts of Weights::kHeadPart outputs; or empty
  std::vector<float> final_norm_;
  RopeTable rope_;
};

}  // namespace neap
