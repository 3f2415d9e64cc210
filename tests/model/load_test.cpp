#include <gtest/gtest.h>

#include <vector>

#include "base/parallel.h"
#include "model/editable_model.h"
#include "model/loaded_model.h"
#include "support/expect_error.h"

namespace neap {
namespace {

using test::EditableModel;

Checkpoint tiny(const std::string& name) {
  return Checkpoint::open(EditableModel::folder_of(name));
}

std::vector<TokenId> some_tokens(std::size_t count) {
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < count; ++i) tokens.push_back(static_cast<TokenId>(3 + i * 31 % 250));
  return tokens;
}

std::vector<float> logits_of(LanguageModel& model, std::span<const TokenId> tokens,
                             std::size_t length) {
  Matrix<float> states(tokens.size(), static_cast<std::size_t>(model.config().hidden));
  Matrix<float> logits(tokens.size(), static_cast<std::size_t>(model.config().vocabulary));
  model.forward(tokens, length, states);
  model.head(states, logits);
  return {logits.data(), logits.data() + logits.rows() * logits.cols()};
}

std::vector<float> logits_of(const std::string& name, const LoadOptions& options) {
  const auto model = load_model(tiny(name), options);
  const auto tokens = some_tokens(96);
  logits_of(*model, tokens, 32);  // the second pass runs on what the first has kept
  return logits_of(*model, tokens, 32);
}

TEST(LoadModel, ReadingBlocksInTurnGivesTheSameBits) {
  for (const Precision precision : {Precision::f32, Precision::bf16})
    for (const char* name : {"qwen2-sliding", "qwen3", "llama-bias"})
      EXPECT_EQ(logits_of(name, {.precision = precision, .max_memory = 1}),
                logits_of(name, {.precision = precision}));
}

TEST(LoadModel, KeepsBlocksThenTheHeadAsMemoryAllows) {
  const Checkpoint checkpoint = tiny("llama2");  // 2 blocks, untied head of 259 x 64
  const auto kept = [&](std::uint64_t max_memory) {
    const LoadedModel model(Weights(checkpoint, read_config(checkpoint)),
                            {.precision = Precision::f32, .max_memory = max_memory});
    return std::pair(model.keeps_blocks(), model.keeps_head());
  };
  // q and o 64 x 64, k and v 16 x 64, gate, up and down 44 x 64; 4 bytes each.
  const std::uint64_t block = 4 * (2 * 64 * 64 + 2 * 16 * 64 + 3 * 44 * 64), head = 4 * 259 * 64;
  EXPECT_EQ(kept(2 * block + head), std::pair(true, true));
  EXPECT_EQ(kept(2 * block + head - 1), std::pair(true, false));
  EXPECT_EQ(kept(2 * block - 1), std::pair(false, true));  // next to one block at a time
  EXPECT_EQ(kept(1), std::pair(false, false));
}

TEST(LoadModel, EveryWindowIsItsOwnWhateverStandsBesideIt) {
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    const auto model = load_model(tiny("mistral"), {.precision = precision});
    const auto tokens = some_tokens(5 * 40);
    const auto together = logits_of(*model, tokens, 40);
    std::vector<float> apart;
    for (std::size_t w = 0; w < 5; ++w) {
      const auto logits = logits_of(*model, std::span(tokens).subspan(w * 40, 40), 40);
      apart.insert(apart.end(), logits.begin(), logits.end());
    }
    EXPECT_EQ(together, apart);
  }
}

TEST(LoadModel, SameBitsAtAnyThreadCount) {
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    std::vector<std::vector<float>> runs;
    for (const int threads : {1, 2, 3}) {
      const ThreadScope scope(threads);
      runs.push_back(logits_of("smollm2", {.precision = precision}));
    }
    EXPECT_EQ(runs[0], runs[1]);
    EXPECT_EQ(runs[0], runs[2]);
  }
}

TEST(LoadModel, HeadIsTheSameInPartsAndForAnyRows) {
  EditableModel model("llama2");  // a head of more than one part: 9000 rows
  const std::int64_t vocabulary = Weights::kHeadPart + 808;
  model.config["vocab_size"] = vocabulary;
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
    EditableModel::Tensor& tensor = model.tensors[name];
    const std::vector<std::byte> rows = tensor.bytes;
    tensor.shape[0] = vocabulary;
    while (tensor.bytes.size() < static_cast<std::size_t>(vocabulary) * 64 * 4)
      tensor.bytes.insert(tensor.bytes.end(), rows.begin(), rows.end());
    tensor.bytes.resize(static_cast<std::size_t>(vocabulary) * 64 * 4);
  }
  const auto large = load_model(model.open(), {.precision = Precision::f32});
  const auto small = load_model(tiny("llama2"), {.precision = Precision::f32});
  const auto tokens = some_tokens(7);
  const auto many = logits_of(*large, tokens, 7), few = logits_of(*small, tokens, 7);
  const auto width = static_cast<std::size_t>(vocabulary);
  for (std::size_t row = 0; row < 7; ++row)
    for (std::size_t id = 0; id < width; ++id)
      ASSERT_EQ(many[row * width + id], few[row * 259 + id % 259]) << row << " " << id;
}

TEST(LoadModel, TokensOutsideTheVocabularyAreArgumentErrors) {
  const auto model = load_model(tiny("llama1"));
  Matrix<float> states(2, static_cast<std::size_t>(model->config().hidden));
  EXPECT_ERROR(model->forward(std::vector<TokenId>{5, 259}, 2, states), ErrorCode::argument, "259");
  EXPECT_ERROR(model->forward(std::vector<TokenId>{-1, 5}, 2, states), ErrorCode::argument, "-1");
}

TEST(LoadModel, SearchedScalesAskForActivationsInLobcq) {
  for (const InputCoding inputs : {InputCoding::stored, InputCoding::keep, InputCoding::nvfp4, InputCoding::int4}) {
    EXPECT_ERROR(load_model(tiny("llama2"), {.inputs = inputs, .input_scales = ScaleChoice::search}),
                 ErrorCode::argument, "activations in LO-BCQ");
  }
  EXPECT_NE(load_model(tiny("llama2"), {.inputs = InputCoding::lobcq, .input_scales = ScaleChoice::search}), nullptr);
}

}  // namespace
}  // namespace neap
