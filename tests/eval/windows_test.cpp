#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "neap/eval.h"
#include "support/byte_tokenizer.h"
#include "support/expect_error.h"

namespace neap {
namespace {

// `count` tokens packed into windows of `length`, as read_windows gives them; ids count up from 10.
TokenWindows text_of(std::size_t count, std::size_t length) {
  TokenWindows text;
  for (std::size_t begin = 0; begin < count; begin += length) {
    std::vector<TokenId> window(std::min(length, count - begin));
    std::iota(window.begin(), window.end(), static_cast<TokenId>(10 + begin));
    text.windows.push_back(window);
  }
  return text;
}

TEST(EvalWindows, GptqModePredictsAllButTheFirstToken) {
  const auto cut = make_eval_windows(text_of(25, 8), test::byte_tokenizer(/*add_bos=*/true),
                                     PerplexityMode::gptq, 8);
  ASSERT_EQ(cut.windows.size(), 3u);
  EXPECT_EQ(cut.dropped, 1);
  for (std::size_t w = 0; w < 3; ++w) {
    EXPECT_EQ(cut.windows[w].tokens, text_of(25, 8).windows[w]);
    EXPECT_EQ(cut.windows[w].first, 1u);
  }
}

// llama-perplexity: logits from position n_ctx / 2 to n_ctx - 2, which predict the tokens after them.
TEST(EvalWindows, LlamaCppModePredictsTheSecondHalf) {
  for (const std::int64_t length : {8, 9}) {
    const auto cut = make_eval_windows(text_of(25, static_cast<std::size_t>(length)),
                                       test::byte_tokenizer(false), PerplexityMode::llamacpp, length);
    const auto& window = cut.windows[0];
    EXPECT_EQ(window.first, static_cast<std::size_t>(length / 2 + 1));
    EXPECT_EQ(window.tokens.size() - window.first, static_cast<std::size_t>(length - length / 2 - 1));
  }
}

TEST(EvalWindows, LlamaCppModeReplacesTheFirstTokenWhereTheTokenizerAddsAStart) {
  const auto with = make_eval_windows(text_of(16, 8), test::byte_tokenizer(true),
                                      PerplexityMode::llamacpp, 8);
  const auto without = make_eval_windows(text_of(16, 8), test::byte_tokenizer(false),
                                         PerplexityMode::llamacpp, 8);
  for (std::size_t w = 0; w < 2; ++w) {
    auto expected = text_of(16, 8).windows[w];
    EXPECT_EQ(without.windows[w].tokens, expected);
    expected[0] = 1;
    EXPECT_EQ(with.windows[w].tokens, expected);
  }
}

TEST(EvalWindows, TheLimitTakesTheFirstWindows) {
  const auto cut = make_eval_windows(text_of(25, 8), test::byte_tokenizer(true),
                                     PerplexityMode::gptq, 8, 2);
  ASSERT_EQ(cut.windows.size(), 2u);
  EXPECT_EQ(cut.windows[1].tokens[0], 18);
}

TEST(EvalWindows, TooShortATextSaysWhatIsNeededAndFound) {
  const auto tokenizer = test::byte_tokenizer(true);
  EXPECT_ERROR(make_eval_windows(text_of(7, 8), tokenizer, PerplexityMode::gptq, 8), ErrorCode::data,
               "expected 8 tokens, found 7");
  EXPECT_ERROR(make_eval_windows(text_of(7, 1), tokenizer, PerplexityMode::gptq, 1),
               ErrorCode::argument, "at least 2");
}

}  // namespace
}  // namespace neap
