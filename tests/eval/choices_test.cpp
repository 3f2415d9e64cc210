#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "eval/small_model.h"
#include "neap/eval.h"
#include "support/byte_tokenizer.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

using testing::SmallModel;

constexpr std::int64_t kVocabulary = 259;

std::vector<ChoiceTask> some_tasks() {
  return {{"The sky is", {"blue", "a very green lake", "up"}, 0},
          {"Question: ends with space? ", {"yes", "no"}, 1},
          {"", {"nothing before", "x"}, 1},
          {"caf\xC3\xA9", {" \xC3\xA9t\xC3\xA9", " b"}, 0}};
}

// The score of a continuation that begins at byte `context` of `text`, straight from all logits.
double direct(SmallModel& model, const Tokenizer& tokenizer, const std::string& text,
              std::size_t context, bool start) {
  std::vector<TokenId> tokens = tokenizer.encode(text, /*add_special=*/false);
  if (start) tokens.insert(tokens.begin(), 1);
  const auto logits = model.logits(tokens);
  double sum = 0;
  for (std::size_t at = context + (start ? 1 : 0); at < tokens.size(); ++at) {
    double total = 0;
    for (std::size_t v = 0; v < logits.cols(); ++v) total += std::exp(double{logits(at - 1, v)});
    sum += logits(at - 1, static_cast<std::size_t>(tokens[at])) - std::log(total);
  }
  return sum;
}

struct Expected {
  double plain = 0, normalized = 0;
};

Expected accuracy_of(SmallModel& model, bool start) {
  const auto tokenizer = test::byte_tokenizer(start);  // one token per byte
  Expected result;
  for (const ChoiceTask& task : some_tasks()) {
    std::string context = task.context;
    while (context.ends_with(' ')) context.pop_back();
    const bool space = !context.empty() && task.choices[0][0] != ' ';
    std::size_t best = 0, best_normalized = 0;
    std::vector<double> scores, normalized;
    for (const std::string& choice : task.choices) {
      scores.push_back(direct(model, tokenizer, context + (space ? " " : "") + choice,
                              context.size(), start || context.empty()));
      normalized.push_back(scores.back() / static_cast<double>(choice.size()));
      if (scores.back() > scores[best]) best = scores.size() - 1;
      if (normalized.back() > normalized[best_normalized]) best_normalized = scores.size() - 1;
    }
    result.plain += best == task.answer ? 0.25 : 0;
    result.normalized += best_normalized == task.answer ? 0.25 : 0;
  }
  return result;
}

TEST(Choices, AccuracyEqualsScoringEachChoiceOnItsOwn) {
  int distinct = 0;
  for (unsigned seed = 1; seed <= 12; ++seed) {
    for (const bool start : {true, false}) {
      SmallModel model(kVocabulary, 6, seed, 0.6f);
      const Expected expected = accuracy_of(model, start);
      const ChoiceResult found = evaluate_choices(model, test::byte_tokenizer(start), some_tasks());
      EXPECT_EQ(found.tasks, 4);
      EXPECT_DOUBLE_EQ(found.accuracy.mean, expected.plain) << seed;
      EXPECT_DOUBLE_EQ(found.accuracy_normalized.mean, expected.normalized) << seed;
      distinct += expected.plain != expected.normalized;
    }
  }
  EXPECT_GT(distinct, 0) << "the models never tell the two measures apart";
}

TEST(Choices, BatchesDoNotChangeTheResult) {
  SmallModel model(kVocabulary, 6, 3, 0.6f);
  EvalOptions one_by_one;
  one_by_one.batch_tokens = 1;
  const auto tokenizer = test::byte_tokenizer(true);
  const auto a = evaluate_choices(model, tokenizer, some_tasks(), one_by_one);
  EXPECT_EQ(model.passes, 9);
  const auto b = evaluate_choices(model, tokenizer, some_tasks());
  EXPECT_EQ(model.passes, 10);
  EXPECT_EQ(a.accuracy.mean, b.accuracy.mean);
  EXPECT_EQ(a.accuracy_normalized.mean, b.accuracy_normalized.mean);
}

// lm-evaluation-harness: standard error of a mean of zeros and ones with the unbiased variance.
TEST(Choices, TheErrorIsTheStandardErrorOfTheShare) {
  SmallModel model(kVocabulary, 6, 1, 0);  // all choices score by length alone: the shortest wins
  const auto found = evaluate_choices(model, test::byte_tokenizer(true), some_tasks());
  EXPECT_DOUBLE_EQ(found.accuracy.mean, 0.5);  // "up", "no", "x", " b": second and third task
  EXPECT_NEAR(found.accuracy.error, std::sqrt(0.25 / 3), 1e-12);
}

// Without start token, unless it is named; "ab" is one token, and "~" none.
Tokenizer merging(bool start) {
  nlohmann::json json = nlohmann::json::parse(test::byte_tokenizer_json(/*add_bos=*/false, {"a b"}));
  json["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", ""}};
  json["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers",
                            {{{"type", "Split"}, {"pattern", {{"String", "~"}}}, {"behavior", "Removed"}, {"invert", false}},
                             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  return Tokenizer::from_json(json.dump(), "tokenizer.json", start ? R"({"bos_token": "<s>"})" : "{}");
}

TEST(Choices, ATaskOfOneTokenIsJudgedBehindTheStartToken) {
  SmallModel model(kVocabulary + 1, 6, 2, 0.6f);
  const std::vector<ChoiceTask> tasks = {{"a", {"b", "c"}, 0}};
  const ChoiceResult found = evaluate_choices(model, merging(true), tasks);
  // The start token and "ab" against "a" and "c".
  const Matrix<float> whole = model.logits({1, kVocabulary}), parts = model.logits({3 + 'a', 3 + 'c'});
  const auto score = [](const Matrix<float>& logits, std::size_t token) {
    double total = 0;
    for (std::size_t v = 0; v < logits.cols(); ++v) total += std::exp(double{logits(0, v)});
    return logits(0, token) - std::log(total);
  };
  EXPECT_EQ(found.accuracy.mean, score(whole, kVocabulary) > score(parts, 3 + 'c') ? 1 : 0);
}

TEST(Choices, ATaskOfTooFewTokensIsAnErrorThatNamesIt) {
  SmallModel model(kVocabulary + 1, 6, 2, 0.6f);
  const std::vector<ChoiceTask> one = {{"a", {"x", "c"}, 0}, {"a", {"b", "c"}, 0}}, none = {{"~", {"~", "~~"}, 0}};
  EXPECT_ERROR(evaluate_choices(model, merging(false), one), ErrorCode::data, "task 2: nothing stands before");
  EXPECT_ERROR(evaluate_choices(model, merging(false), none), ErrorCode::data, "task 1: nothing stands before");
  EXPECT_ERROR(evaluate_choices(model, merging(true), none), ErrorCode::data, "task 1: a choice gives no tokens");
}

class TaskFile : public ::testing::Test {
 protected:
  std::vector<ChoiceTask> read(const std::string& lines) {
    return read_choice_tasks(folder_.write("tasks.jsonl", lines));
  }
  test::TempFolder folder_;
};

TEST_F(TaskFile, TakesContextOrQuestionAndIndexOrLetter) {
  const auto tasks = read(
      "{\"context\": \"a b\", \"choices\": [\"c\", \"d\"], \"answer\": 1, \"id\": 7}\n"
      "\n"
      "{\"question\": \"Why?\", \"choices\": [\"So.\", \"No.\", \"Oh.\"], \"answer\": \"C\"}");
  ASSERT_EQ(tasks.size(), 2u);
  EXPECT_EQ(tasks[0].context, "a b");
  EXPECT_EQ(tasks[0].answer, 1u);
  EXPECT_EQ(tasks[1].context, "Question: Why?\nAnswer:");
  EXPECT_EQ(tasks[1].choices, (std::vector<std::string>{"So.", "No.", "Oh."}));
  EXPECT_EQ(tasks[1].answer, 2u);
}

TEST_F(TaskFile, EachFaultNamesItsLine) {
  const std::string good = "{\"context\": \"a\", \"choices\": [\"c\", \"d\"], \"answer\": 1}\n";
  for (const std::string bad : {
           "not json",
           "[1, 2]",
           "{\"choices\": [\"c\", \"d\"], \"answer\": 1}",
           "{\"context\": \"a\", \"question\": \"b\", \"choices\": [\"c\", \"d\"], \"answer\": 1}",
           "{\"context\": 3, \"choices\": [\"c\", \"d\"], \"answer\": 1}",
           "{\"context\": \"a\", \"answer\": 1}",
           "{\"context\": \"a\", \"choices\": [\"c\"], \"answer\": 0}",
           "{\"context\": \"a\", \"choices\": [\"c\", \"\"], \"answer\": 0}",
           "{\"context\": \"a\", \"choices\": [\"c\", 5], \"answer\": 0}",
           "{\"context\": \"a\", \"choices\": [\"c\", \"d\"]}",
           "{\"context\": \"a\", \"choices\": [\"c\", \"d\"], \"answer\": 2}",
           "{\"context\": \"a\", \"choices\": [\"c\", \"d\"], \"answer\": -1}",
           "{\"context\": \"a\", \"choices\": [\"c\", \"d\"], \"answer\": \"c\"}",
           "{\"context\": \"a\", \"choices\": [\"c\", \"d\"], \"answer\": \"C\"}",
           "{\"context\": \"a\", \"choices\": [\"c\", \"d\"], \"answer\": 0.5}",
           "{\"context\": \"a\", \"choices\": [\"c\", \"d\"], \"answer\": \"\"}",
           "{\"context\": \"a\", \"choices\": [\"c\", \"d\"], \"answer\": 1, \"answer\": 0}",
       }) {
    SCOPED_TRACE(bad);
    EXPECT_ERROR(read(good + bad), ErrorCode::format, "line 2");
  }
}

TEST_F(TaskFile, ALineNestedDeeplyIsAnErrorThatNamesIt) {
  const std::string deep = std::string(400'000, '[') + std::string(400'000, ']');
  EXPECT_ERROR(read("{\"context\": \"a\", \"choices\": [" + deep + ", \"b\"], \"answer\": 0}"), ErrorCode::format,
               "tasks.jsonl: line 1: JSON is nested too deeply");
  EXPECT_ERROR(read("{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": " + deep + "}"), ErrorCode::format,
               "line 1");
}

TEST_F(TaskFile, AnEmptyOrMissingFileIsAnError) {
  EXPECT_ERROR(read("\n \n"), ErrorCode::data, "no task");
  EXPECT_ERROR(read_choice_tasks("/nonexistent.jsonl"), ErrorCode::io, "/nonexistent.jsonl");
}

}  // namespace
}  // namespace neap
