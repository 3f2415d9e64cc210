#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "model/editable_model.h"
#include "model/loaded_model.h"
#include "neap/generate.h"
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
  const auto generated = generate(*model, tokens, {}, {.max_tokens = 60}).tokens;
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
    EXPECT_EQ(row(batch, s, 20), generate(*model, row(prompts, s, 3), {}, greedy).tokens) << s;
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
  EXPECT_EQ(generate_batch(*model, prompt, 1, options), generate(*model, prompt, {}, options).tokens);
}

TEST(Generate, SeedsGiveDifferentTexts) {
  const auto model = tiny("llama1");
  const std::vector<TokenId> prompt = {9};
  const auto with = [&](std::uint64_t seed) {
    return generate(*model, prompt, {}, {.max_tokens = 24, .temperature = 1, .seed = seed})
        .tokens;
  };
  EXPECT_EQ(with(1), with(1));
  EXPECT_NE(with(1), with(2));
}

TEST(Generate, StopsBeforeTheEndTokenIfAsked) {
  const auto model = tiny("llama1");
  const std::vector<TokenId> prompt = {9};
  SampleOptions options{.max_tokens = 12, .temperature = 1};
  const auto free = generate(*model, prompt, {}, options).tokens;
  const auto end = std::find(free.begin(), free.end(), free[5]);
  EXPECT_EQ(generate(*model, prompt, {free[5], 1000}, options).tokens,
            std::vector<TokenId>(free.begin(), end));
  options.stop_at_eos = false;
  EXPECT_EQ(generate(*model, prompt, {free[5]}, options).tokens, free);
}

TEST(Generate, CallbackSeesEachTokenAndMayStop) {
  const auto model = tiny("llama1");
  const std::vector<TokenId> prompt = {9};
  std::vector<TokenId> seen;
  const auto generated = generate(*model, prompt, {}, {.max_tokens = 50}, [&](TokenId token) {
    seen.push_back(token);
    return seen.size() < 4;
  });
  EXPECT_EQ(generated.tokens, seen);
  EXPECT_EQ(generated.ending, Ending::stopped);
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
  EXPECT_TRUE(generate(*model, prompt, {}, {.max_tokens = 0}).tokens.empty());
}

const std::vector<std::vector<TokenId>> kPrompts = {
    {5, 6, 7}, {100}, {9, 33, 200, 201, 4, 4, 77}, {8, 250}};

TEST(GenerateAll, PromptsOfAnyLengthsGoOnAsEachAlone) {
  for (const char* name : {"llama31", "mistral", "qwen3"}) {
    const auto model = tiny(name);
    const SampleOptions greedy{.max_tokens = 30, .repetition_penalty = 1.3};
    for (const std::size_t at_once : {1, 2, 3, 9}) {
      const ThreadScope scope(at_once == 3 ? 3 : 1);
      const auto all = generate_all(*model, kPrompts, {}, greedy, at_once);
      ASSERT_EQ(all.size(), kPrompts.size());
      for (std::size_t s = 0; s < all.size(); ++s) {
        EXPECT_EQ(all[s].tokens, generate(*model, kPrompts[s], {}, greedy).tokens) << s;
        EXPECT_EQ(all[s].ending, Ending::max_tokens);
      }
    }
  }
}

TEST(GenerateAll, ASequenceThatEndsLeavesTheOthersAlone) {
  const auto model = tiny("qwen2");
  const SampleOptions options{.max_tokens = 30, .temperature = 1.5};
  const auto free = generate_all(*model, kPrompts, {}, options, 4);
  // Its fifth token is the end of the first sequence; where others draw it, they end there.
  const TokenId end = free[0].tokens[4];
  const auto ended = generate_all(*model, kPrompts, {end}, options, 2);
  const auto stopped = generate_all(*model, kPrompts, {}, options, 3,
                                    [](std::size_t s, TokenId) { return s != 2; });
  for (std::size_t s = 0; s < free.size(); ++s) {
    const auto& tokens = free[s].tokens;
    const auto at = std::ranges::find(tokens, end);
    EXPECT_EQ(ended[s].tokens, std::vector<TokenId>(tokens.begin(), at)) << s;
    EXPECT_EQ(ended[s].ending, at == tokens.end() ? Ending::max_tokens : Ending::end_token);
    EXPECT_EQ(stopped[s].tokens.size(), s == 2 ? 1u : 30u);
    EXPECT_EQ(stopped[s].ending, s == 2 ? Ending::stopped : Ending::max_tokens);
  }
  EXPECT_EQ(ended[0].tokens.size(), 4u);
}

TEST(GenerateAll, NoPromptsGiveNothingAndEmptyOnesAreErrors) {
  const auto model = tiny("llama1");
  EXPECT_TRUE(generate_all(*model, kPrompts, {}, {.max_tokens = 0}, 4)[2].tokens.empty());
  EXPECT_ERROR(generate_all(*model, kPrompts, {}, {}, 0), ErrorCode::argument, "at once");
  EXPECT_TRUE(generate_all(*model, {}, {}, {}, 4).empty());
  const std::vector<std::vector<TokenId>> prompts = {{1}, {}};
  EXPECT_ERROR(generate_all(*model, prompts, {}, {}, 4), ErrorCode::argument, "prompt");
}

TEST(Generate, AStrongPenaltyRepeatsNothing) {
  const auto model = tiny("llama2", {.precision = Precision::f32});
  const std::vector<TokenId> prompt = {3, 4, 5};
  auto tokens = generate(*model, prompt, {}, {.max_tokens = 60, .repetition_penalty = 1e6}).tokens;
  tokens.insert(tokens.end(), prompt.begin(), prompt.end());
  std::ranges::sort(tokens);
  EXPECT_EQ(std::ranges::adjacent_find(tokens), tokens.end());
}

TEST(Generate, AnInt8CacheIsCloseAndItsWindowsAreTheSame) {
  const auto exact = tiny("llama31", {.precision = Precision::f32});
  const auto model = tiny("llama31", {.precision = Precision::f32, .kv_type = KvType::int8});
  const std::vector<TokenId> tokens = {17, 201, 5, 9, 40, 41, 42, 43, 8, 8, 120, 3};
  const auto states = [&](LanguageModel& of) {
    Matrix<float> result(tokens.size(), static_cast<std::size_t>(of.config().hidden));
    of.forward(tokens, tokens.size(), result);
    return result;
  };
  const Matrix<float> a = states(*exact), b = states(*model);
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.rows() * a.cols(); ++i) {
    error += std::pow(a.data()[i] - b.data()[i], 2);
    norm += std::pow(a.data()[i], 2);
  }
  EXPECT_GT(error, 0);
  EXPECT_LT(std::sqrt(error / norm), 0.02);  // 2^-8 a value, through the layers
  std::vector<TokenId> text = {17, 201, 5};
  const auto generated = generate(*model, text, {}, {.max_tokens = 40});
  for (const TokenId token : generated.tokens) {
    ASSERT_EQ(token, likeliest_after(*model, text));
    text.push_back(token);
  }
}

class Session : public testing::Test {
 protected:
  // A turn, held against the same text from the beginning.
  void expect_turn(std::size_t tokens_read) {
    const auto result = session_.go_on(text_, {}, options_);
    EXPECT_EQ(session_.tokens_read(), tokens_read);
    EXPECT_EQ(result.tokens, generate(*model_, text_, {}, options_).tokens);
    text_.insert(text_.end(), result.tokens.begin(), result.tokens.end());
  }

  std::unique_ptr<LanguageModel> model_ = tiny("smollm2", {.precision = Precision::f32});
  TextSession session_{*model_};
  SampleOptions options_{.max_tokens = 20, .repetition_penalty = 1.1};
  std::vector<TokenId> text_ = {1, 2, 3, 4, 5};
};

TEST_F(Session, ATurnReadsItsNewTokensAlone) {
  expect_turn(5);
  text_.insert(text_.end(), {70, 71, 72});
  expect_turn(4);  // the last one drawn was not read yet
  text_.push_back(90);
  expect_turn(2);
}

TEST_F(Session, ATextThatWasRewrittenIsReadFromThere) {
  expect_turn(5);
  text_[10] = text_[10] == 11 ? 12 : 11;
  expect_turn(15);
  text_.resize(3);
  expect_turn(1);  // the last token, again
}

TEST_F(Session, AStopOrAnErrorForgetsNothingThatWasRead) {
  std::size_t seen = 0;
  auto result = session_.go_on(text_, {}, options_, [&](TokenId) { return ++seen < 3; });
  EXPECT_EQ(result.ending, Ending::stopped);
  text_.insert(text_.end(), result.tokens.begin(), result.tokens.end());
  expect_turn(1);
  text_.push_back(-7);
  EXPECT_ERROR(session_.go_on(text_, {}, options_), ErrorCode::argument, "-7");
  text_.back() = 7;
  expect_turn(2);
}

TEST_F(Session, AnEndTokenHasReadAllBeforeIt) {
  const auto free = generate(*model_, text_, {}, options_).tokens;
  const auto result = session_.go_on(text_, {free[6]}, options_);
  EXPECT_EQ(result.ending, Ending::end_token);
  text_.insert(text_.end(), result.tokens.begin(), result.tokens.end());
  text_.push_back(44);
  expect_turn(1);
}

TEST_F(Session, TurnsGoOnWithTheRandomStream) {
  options_ = {.max_tokens = 12, .temperature = 1};
  const auto first = session_.go_on(text_, {}, options_).tokens;
  const auto again = session_.go_on(text_, {}, options_).tokens;
  EXPECT_EQ(first, generate(*model_, text_, {}, options_).tokens);
  EXPECT_NE(first, again);
}

}  // namespace
}  // namespace neap
