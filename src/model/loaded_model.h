// What load_model returns: a checkpoint's blocks, run one after another, in memory or read in turn.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "model/block.h"
#include "model/kv_cache.h"
#include "model/packed_linears.h"
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

  KvCache make_cache(std::size_t sequences) const { return {config(), types_.kept, sequences}; }
  // As forward, for tokens that come after those in the cache: counts[s] of sequence s, which may be
  // none, one sequence after another. They are in the cache afterwards. states: one row per token,
  // whose bits do not depend on the other sequences.
  void forward_cached(std::span<const TokenId> tokens, std::span<const std::size_t> counts,
                      KvCache& cache, MatrixView<float> states);

  // Runs body, a pass and its head, with the threads standing by for all of it (with_team), once there
  // is nothing left to load.
  void run_together(const std::function<void()>& body);

  AttentionTypes attention_types() const { return types_; }
  // Runs what it is given on every block in order, each read when its turn comes unless it is kept.
  void visit_blocks(const std::function<void(const Block&)>& visit);
  // The same for the parts of the head, with the first token of each.
  void visit_head(const std::function<void(const Linear& part, std::size_t first)>& visit);

  // Whether blocks (and the head) stay in memory once they are read.
  bool keeps_blocks() const { return keeps_blocks_; }
  bool keeps_head() const { return keeps_head_; }

 private:
  std::unique_ptr<const Block> read_block(std::size_t index) const;
  const RopeTable& rope(std::size_t positions);
  VocabularyWeights head_weights() const { return packed_ ? packed_->head() : VocabularyWeights::stored; }
  VocabularyWeights embedding_weights() const {
    return packed_ ? packed_->embedding() : VocabularyWeights::stored;
  }
  // Whether the packed embedding is the head too.
  bool one_table() const {
    return config().tied_head && embedding_weights() != VocabularyWeights::stored &&
           embedding_weights() == head_weights();
  }
  bool head_is_loaded() const { return !(one_table() ? embedding_.empty() : head_.empty()); }
  void load_embedding();
  // Rows of the embedding, one per token.
  void embed(std::span<const TokenId> tokens, MatrixView<float> states);
  void normalize(MatrixView<float> states) const;

  Weights weights_;
  Precision precision_;
  AttentionTypes types_;
  InputCoder inputs_;
  std::shared_ptr<const PackedLinears> packed_;
  bool keeps_blocks_, keeps_head_;
  std::vector<std::unique_ptr<const Block>> blocks_;  // null until read; all null unless kept
  // Parts of Weights::kHeadPart rows; empty until read, and unless kept (head) or packed (embedding).
  std::vector<std::unique_ptr<const Linear>> head_;
  std::vector<std::unique_ptr<const VocabularyPart>> embedding_;
  std::vector<float> final_norm_;
  RopeTable rope_;
};

// What load_model returned. Throws Error(argument) if it did not.
LoadedModel& loaded_model(LanguageModel& model);

}  // namespace neap
