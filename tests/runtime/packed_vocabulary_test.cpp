// Models whose embedding and head are packed when they are loaded.
#include <gtest/gtest.h>

#include <cstring>

#include "base/parallel.h"
#include "model/editable_model.h"
#include "model/loaded_model.h"
#include "neap/runtime.h"
#include "support/expect_error.h"

namespace neap {
namespace {

using test::EditableModel;

const std::string kEmbedTokens = "model.embed_tokens.weight";

std::vector<TokenId> some_tokens() {
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < 96; ++i) tokens.push_back(static_cast<TokenId>(3 + i * 31 % 250));
  return tokens;
}

// Of windows of 32, twice: the second pass runs on what the first has kept.
std::vector<float> logits_of(LanguageModel& model) {
  const auto tokens = some_tokens();
  Matrix<float> states(tokens.size(), static_cast<std::size_t>(model.config().hidden));
  Matrix<float> logits(tokens.size(), static_cast<std::size_t>(model.config().vocabulary));
  for (int pass = 0; pass < 2; ++pass) {
    model.forward(tokens, 32, states);
    model.head(states, logits);
  }
  return {logits.data(), logits.data() + logits.rows() * logits.cols()};
}

std::vector<float> logits_of(const Checkpoint& checkpoint, const PackedOptions& options = {},
                             std::uint64_t max_memory = 0) {
  const auto model = load_model(checkpoint, {.precision = Precision::f32,
                                             .max_memory = max_memory,
                                             .packed = packed_linears(options)});
  return logits_of(*model);
}

// Puts the packed rows of the embedding in its place.
void round_embedding(EditableModel& model, VocabularyWeights how) {
  EditableModel::Tensor& tensor = model.tensors[kEmbedTokens];
  const Checkpoint checkpoint = model.open();
  const TensorInfo& info = checkpoint.info(kEmbedTokens);
  Matrix<float> rows(static_cast<std::size_t>(info.shape[0]), static_cast<std::size_t>(info.shape[1]));
  checkpoint.read_rows(info, 0, info.shape[0], rows.data());
  const auto part = packed_linears()->vocabulary_part(how, rows);
  for (std::size_t r = 0; r < rows.rows(); ++r) part->read_row(r, rows.row(r));
  const auto bytes = std::as_bytes(std::span(rows.data(), rows.rows() * rows.cols()));
  tensor.type = DType::f32;
  tensor.bytes.assign(bytes.begin(), bytes.end());
}

constexpr std::array kPacked = {VocabularyWeights::int8, VocabularyWeights::lobcq};

TEST(PackedVocabulary, AnEmbeddingIsLookedUpAsItsRowsAreDequantized) {
  for (const VocabularyWeights how : kPacked) {
    EditableModel rounded("llama2");  // its head is not tied
    round_embedding(rounded, how);
    const Checkpoint checkpoint = Checkpoint::open(EditableModel::folder_of("llama2"));
    const auto found = logits_of(checkpoint, {.embedding = how});
    EXPECT_EQ(found, logits_of(rounded.open())) << name_of(how);
    EXPECT_NE(found, logits_of(checkpoint)) << name_of(how);
  }
}

TEST(PackedVocabulary, NeitherThreadsNorMemoryNorCompanyChangeIt) {
  const Checkpoint checkpoint = Checkpoint::open(EditableModel::folder_of("smollm2"));  // tied
  for (const VocabularyWeights how : kPacked) {
    const PackedOptions both{.head = how, .embedding = how};
    const auto want = logits_of(checkpoint, both);
    EXPECT_EQ(logits_of(checkpoint, both, 1), want);
    for (const int threads : {1, 3}) {
      const ThreadScope scope(threads);
      EXPECT_EQ(logits_of(checkpoint, both), want);
    }
    // One token at a time, from a cache, over the same rows.
    const auto model = load_model(checkpoint, {.precision = Precision::f32, .packed = packed_linears(both)});
    LoadedModel& loaded = loaded_model(*model);
    KvCache cache = loaded.make_cache(1);
    const auto hidden = static_cast<std::size_t>(model->config().hidden);
    Matrix<float> states(1, hidden), all(4, hidden);
    const auto tokens = some_tokens();
    model->forward(std::span(tokens).first(4), 4, all);
    const std::size_t one = 1;
    loaded.forward_cached(std::span(tokens).first(1), {&one, 1}, cache, states);
    EXPECT_EQ(std::memcmp(states.data(), all.row(0), hidden * sizeof(float)), 0) << name_of(how);
  }
}

TEST(PackedVocabulary, ATiedTableGivesWhatTwoWould) {
  for (const VocabularyWeights how : kPacked) {
    EditableModel untied("smollm2");
    untied.config["tie_word_embeddings"] = false;
    untied.tensors["lm_head.weight"] = untied.tensors[kEmbedTokens];
    const PackedOptions both{.head = how, .embedding = how};
    EXPECT_EQ(logits_of(Checkpoint::open(EditableModel::folder_of("smollm2")), both),
              logits_of(untied.open(), both));
  }
}

// Real tables, counted.
class Counting final : public PackedLinears {
 public:
  explicit Counting(const PackedOptions& options) : real_(packed_linears(options)) {}

  std::unique_ptr<const Linear> coded(const LobcqTensor& weight, const Codebooks& codebooks,
                                      std::span<const float> bias, const InputEncoder& inputs) const override {
    return real_->coded(weight, codebooks, bias, inputs);
  }
  bool takes(Precision precision) const override { return real_->takes(precision); }
  std::unique_ptr<const Linear> plain(const LobcqTensor& weight, const Codebooks& codebooks,
                                      std::span<const float> bias, Precision precision) const override {
    return real_->plain(weight, codebooks, bias, precision);
  }
  std::unique_ptr<const Linear> plain(const QuantizedTensor& weight, std::span<const float> bias,
                                      Precision precision) const override {
    return real_->plain(weight, bias, precision);
  }
  std::unique_ptr<const Linear> plain(const Fp4Tensor& weight, std::span<const float> bias,
                                      Precision precision) const override {
    return real_->plain(weight, bias, precision);
  }
  std::unique_ptr<const Linear> plain(const GgufTensor& weight, std::span<const float> bias,
                                      Precision precision) const override {
    return real_->plain(weight, bias, precision);
  }
  VocabularyWeights head() const override { return real_->head(); }
  VocabularyWeights embedding() const override { return real_->embedding(); }
  std::unique_ptr<const VocabularyPart> vocabulary_part(VocabularyWeights how,
                                                        MatrixView<const float> rows) const override {
    ++parts;
    return real_->vocabulary_part(how, rows);
  }

  mutable int parts = 0;

 private:
  std::shared_ptr<const PackedLinears> real_;
};

TEST(PackedVocabulary, TiedAndAlikeAreOneTable) {
  using enum VocabularyWeights;
  const auto tables = [](const char* name, VocabularyWeights head, VocabularyWeights embedding) {
    const auto counting = std::make_shared<Counting>(PackedOptions{.head = head, .embedding = embedding});
    const auto model = load_model(Checkpoint::open(EditableModel::folder_of(name)),
                                  {.precision = Precision::f32, .packed = counting});
    logits_of(*model);
    return counting->parts;  // of at most 8192 rows, which here are all
  };
  EXPECT_EQ(tables("smollm2", int8, int8), 1);
  EXPECT_EQ(tables("smollm2", lobcq, lobcq), 1);
  EXPECT_EQ(tables("smollm2", int8, lobcq), 2);
  EXPECT_EQ(tables("smollm2", stored, int8), 1);
  EXPECT_EQ(tables("smollm2", int8, stored), 1);
  EXPECT_EQ(tables("smollm2", stored, stored), 0);
  EXPECT_EQ(tables("llama2", int8, int8), 2);  // not tied
}

TEST(PackedVocabulary, TokensOutsideTheVocabularyAreArgumentErrors) {
  const auto model = load_model(Checkpoint::open(EditableModel::folder_of("llama2")),
                                {.packed = packed_linears({.embedding = VocabularyWeights::int8})});
  Matrix<float> states(2, static_cast<std::size_t>(model->config().hidden));
  EXPECT_ERROR(model->forward(std::vector<TokenId>{5, 259}, 2, states), ErrorCode::argument, "259");
  EXPECT_ERROR(model->forward(std::vector<TokenId>{-1, 5}, 2, states), ErrorCode::argument, "-1");
}

}  // namespace
}  // namespace neap
