#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "model/editable_model.h"
#include "model/loaded_model.h"
#include "support/expect_error.h"

namespace neap {
namespace {

std::unique_ptr<LanguageModel> tiny(const std::string& name, const LoadOptions& options = {}) {
  return load_model(Checkpoint::open(test::EditableModel::folder_of(name)), options);
}

// The likeliest token after `tokens`, by a whole pass without a cache.
TokenId likeliest_after(LanguageModel& model, const std::vector<TokenId>& tokens) {
  Matrix<float> states(tokens.size(), static_cast<std::size_t>(model.config().hidden));
  Matrix<float> logits(1, static_cast<std::size_t>(model.config().vocabulary));
  model.forward(tokens, tokens.size(), states);
  model.head(states.view().row_range(tokens.size() - 1, 1), logits);
  return static_cast<TokenId>(std::max_element(logits.data(), logits.data() + logits.cols()) -
                              logits.data());
}

std::vector<TokenId> row(const std::vector<TokenId>& table, std::size_t index, std::size_t length) {
  const auto begin = table.begin() + static_cast<std::ptrdiff_t>(index * length);
  return {begin, begin + static_cast<std::ptrdiff_t>(length)};
}

class EveryFamily : public testing::TestWithParam<const char*> {};

// 60 tokens are longer than the models' windows of 24.
TEST_P(EveryFamily, GreedyGenerationIsTheArgmaxOfWholePasses) {
  const auto model = tiny(GetParam(), {.precision = Precision::f32});
  std::vector<TokenId> tokens = {17, 201, 5};
  const auto generated = generate(*model, tokens, {}, {.max_tokens = 60});
  for (const TokenId token : generated) {
    ASSERT_EQ(token, likeliest_after(*model, tokens)) << "after " << tokens.size() << " tokens";
    tokens.push_back(token);
  }
  EXPECT_EQ(tokens.size(), 63u);
}

INSTANTIATE_TEST_SUITE_P(Generate, EveryFamily,
                         testing::Values("llama31", "llama-bias", "mistral", "qwen2-sliding",
                                         "qwen3", "smollm2", "smollm3"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(Generate, BatchIsTheSameAtAnyThreadCountAndResidency) {
  const std::vector<TokenId> prompts = {1, 2, 3, 4, 5, 6, 7, 8};
  const SampleOptions options{.max_tokens = 20, .temperature = 1, .seed = 7};
  const auto run = [&](int threads, const LoadOptions& load) {
    const ThreadScope scope(threads);
    return generate_batch(*tiny("smollm2", load), prompts, 4, options);
  };
  const auto reference = run(1, {});
  EXPECT_EQ(reference.size(), 80u);
  EXPECT_EQ(run(2, {}), reference);
  EXPECT_EQ(run(3, {.max_memory = 1}), reference);
}

TEST(Generate, GreedyBatchIsEachPromptAlone) {
  const auto model = tiny("qwen3");
  const std::vector<TokenId> prompts = {5, 6, 7, 100, 101, 102, 200, 9, 33};
  const SampleOptions greedy{.max_tokens = 20};
  const auto batch = generate_batch(*model, prompts, 3, greedy);
  for (std::size_t s = 0; s < 3; ++s)
    EXPECT_EQ(row(batch, s, 20), generate(*model, row(prompts, s, 3), {}, greedy)) << s;
}

TEST(Generate, SequenceDependsOnItsIndexAndNotOnTheBatch) {
  const auto model = tiny("qwen2");
  const SampleOptions options{.max_tokens = 16, .temperature = 1};
  const std::vector<TokenId> prompts(9, 11);
  const auto nine = generate_batch(*model, prompts, 9, options);
  const auto three = generate_batch(*model, std::span(prompts).first(3), 3, options);
  for (std::size_t s = 0; s < 3; ++s) EXPECT_EQ(row(nine, s, 16), row(three, s, 16));
  EXPECT_NE(row(nine, 0, 16), row(nine, 1, 16));
}

TEST(Generate, BatchOfOneIsPlainGeneration) {
  const auto model = tiny("llama1");
  const std::vector<TokenId> prompt = {9, 8, 7};
  const SampleOptions options{.max_tokens = 24, .temperature = 0.8, .top_k = 40, .top_p = 0.9};
  EXPECT_EQ(generate_batch(*model, prompt, 1, options), generate(*model, prompt, {}, options));
}

TEST(Generate, SeedsGiveDifferentTexts) {
  const auto model = tiny("llama1");
  const std::vector<TokenId> prompt = {9};
  const auto with = [&](std::uint64_t seed) {
    return generate(*model, prompt, {}, {.max_tokens = 24, .temperature = 1, .seed = seed});
  };
  EXPECT_EQ(with(1), with(1));
  EXPECT_NE(with(1), with(2));
}

TEST(Generate, StopsBeforeTheEndTokenIfAsked) {
  const auto model = tiny("llama1");
  const std::vector<TokenId> prompt = {9};
  SampleOptions options{.max_tokens = 12, .temperature = 1};
  const auto free = generate(*model, prompt, {}, options);
  const auto end = std::find(free.begin(), free.end(), free[5]);
  EXPECT_EQ(generate(*model, prompt, {free[5], 1000}, options),
            std::vector<TokenId>(free.begin(), end));
  options.stop_at_eos = false;
  EXPECT_EQ(generate(*model, prompt, {free[5]}, options), free);
}

TEST(Generate, CallbackSeesEachTokenAndMayStop) {
  const auto model = tiny("llama1");
  const std::vector<TokenId> prompt = {9};
  std::vector<TokenId> seen;
  const auto generated = generate(*model, prompt, {}, {.max_tokens = 50}, [&](TokenId token) {
    seen.push_back(token);
    return seen.size() < 4;
  });
  EXPECT_EQ(generated, seen);
  EXPECT_EQ(seen.size(), 4u);
  EXPECT_ERROR(generate_batch(*model, prompt, 1, {}, [](std::int64_t step) { return step < 2; }),
               ErrorCode::cancelled, "cancelled");
}

TEST(Generate, SenselessRequestsAreArgumentErrors) {
  const auto model = tiny("llama1");
  const std::vector<TokenId> prompt = {9, 8, 7};
  EXPECT_ERROR(generate(*model, {}, {}, {}), ErrorCode::argument, "prompt");
  EXPECT_ERROR(generate(*model, std::vector<TokenId>{-3}, {}, {}), ErrorCode::argument, "-3");
  EXPECT_ERROR(generate(*model, prompt, {}, {.temperature = -1}), ErrorCode::argument,
               "temperature");
  EXPECT_ERROR(generate_batch(*model, prompt, 2, {}), ErrorCode::argument, "equal length");
  EXPECT_TRUE(generate(*model, prompt, {}, {.max_tokens = 0}).empty());
}

}  // namespace
}  // namespace neap
