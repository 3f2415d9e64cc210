#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "eval/small_model.h"
#include "neap/error.h"
#include "neap/eval.h"

namespace neap {
namespace {

using testing::random_tokens;
using testing::SmallModel;

constexpr std::int64_t kVocabulary = 97;

std::vector<EvalWindow> some_windows() {
  return {{random_tokens(40, kVocabulary, 1), 1},
          {random_tokens(40, kVocabulary, 2), 21},
          {random_tokens(9, kVocabulary, 3), 1},
          {random_tokens(33, kVocabulary, 4), 32}};
}

double log_probability(const float* row, std::int64_t count, TokenId token) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(row[i]));
  return row[token] - std::log(sum);
}

// Straight from the definitions, in fp64, over whole matrices of logits.
struct Direct {
  std::vector<double> nll, reference_nll, kl;
  double same_top = 0;

  Direct(SmallModel& model, SmallModel& reference, const std::vector<EvalWindow>& windows) {
    for (const EvalWindow& window : windows) {
      const auto q = model.logits(window.tokens), p = reference.logits(window.tokens);
      for (std::size_t at = window.first; at < window.tokens.size(); ++at) {
        add(p.row(at - 1), q.row(at - 1), window.tokens[at]);
      }
    }
    same_top /= static_cast<double>(nll.size());
  }

  void add(const float* p, const float* q, TokenId token) {
    nll.push_back(-log_probability(q, kVocabulary, token));
    reference_nll.push_back(-log_probability(p, kVocabulary, token));
    double sum = 0;
    for (TokenId t = 0; t < kVocabulary; ++t) {
      const double lp = log_probability(p, kVocabulary, t);
      sum += std::exp(lp) * (lp - log_probability(q, kVocabulary, t));
    }
    kl.push_back(sum);
    same_top += std::max_element(p, p + kVocabulary) - p == std::max_element(q, q + kVocabulary) - q;
  }
};

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

double standard_error(const std::vector<double>& values) {
  const double m = mean(values), n = static_cast<double>(values.size());
  double sum = 0;
  for (const double v : values) sum += (v - m) * (v - m);
  return std::sqrt(sum / (n - 1) / n);
}

TEST(Evaluate, EqualsTheDefinitions) {
  SmallModel model(kVocabulary, 8, 1, 0.8f), reference(kVocabulary, 12, 2, 0.7f);
  const auto windows = some_windows();
  Direct direct(model, reference, windows);
  const EvalResult result = evaluate(model, &reference, windows);
  EXPECT_EQ(result.perplexity.tokens, 39 + 19 + 8 + 1);
  EXPECT_NEAR(result.perplexity.nll.mean, mean(direct.nll), 1e-6);
  EXPECT_NEAR(result.perplexity.nll.error, standard_error(direct.nll), 1e-6);
  EXPECT_NEAR(result.perplexity.value, std::exp(mean(direct.nll)), 1e-4);
  EXPECT_NEAR(result.perplexity.error, std::exp(mean(direct.nll)) * standard_error(direct.nll), 1e-4);
  const Divergence& d = result.divergence.value();
  EXPECT_NEAR(d.kl.mean, mean(direct.kl), 1e-6);
  EXPECT_NEAR(d.kl.error, standard_error(direct.kl), 1e-6);
  EXPECT_NEAR(d.kl_max, *std::max_element(direct.kl.begin(), direct.kl.end()), 1e-5);
  std::sort(direct.kl.begin(), direct.kl.end());
  EXPECT_NEAR(d.kl_median, direct.kl[direct.kl.size() / 2], 1e-5);  // 67 values
  EXPECT_DOUBLE_EQ(d.same_top.mean, direct.same_top);
  EXPECT_NEAR(d.reference.value, std::exp(mean(direct.reference_nll)), 1e-4);
  EXPECT_NEAR(d.log_ratio.mean, mean(direct.nll) - mean(direct.reference_nll), 1e-6);
}

TEST(Evaluate, AModelThatKnowsNothingHasThePerplexityOfItsVocabulary) {
  SmallModel model(kVocabulary, 4, 1, /*scale=*/0);
  const EvalResult result = evaluate(model, nullptr, some_windows());
  EXPECT_NEAR(result.perplexity.value, kVocabulary, 1e-4);
  EXPECT_NEAR(result.perplexity.error, 0, 1e-9);
  EXPECT_FALSE(result.divergence.has_value());
}

TEST(Evaluate, AModelDoesNotDivergeFromItself) {
  SmallModel model(kVocabulary, 8, 1), same(kVocabulary, 8, 1);
  const Divergence d = evaluate(model, &same, some_windows()).divergence.value();
  EXPECT_EQ(d.kl.mean, 0);
  EXPECT_EQ(d.kl_max, 0);
  EXPECT_EQ(d.same_top.mean, 1);
  EXPECT_EQ(d.rms_probability, 0);
  EXPECT_EQ(d.log_ratio.mean, 0);
}

TEST(Evaluate, GivesTheSameBitsForAnyBatchAndThreadCount) {
  SmallModel model(kVocabulary, 8, 1, 0.8f), reference(kVocabulary, 12, 2, 0.7f);
  const auto windows = some_windows();
  EvalOptions one_by_one;
  one_by_one.batch_tokens = 1;
  one_by_one.threads = 1;
  EvalOptions together;
  together.threads = 3;
  const EvalResult a = evaluate(model, &reference, windows, one_by_one);
  EXPECT_EQ(model.passes, 4);
  const EvalResult b = evaluate(model, &reference, windows, together);
  EXPECT_EQ(model.passes, 5);
  EXPECT_EQ(a.perplexity.value, b.perplexity.value);
  EXPECT_EQ(a.divergence->kl.mean, b.divergence->kl.mean);
  EXPECT_EQ(a.divergence->kl_p99, b.divergence->kl_p99);
}

TEST(Evaluate, ABadLogitNamesWindowAndPosition) {
  SmallModel model(kVocabulary, 8, 1);
  model.spoil = [](MatrixView<float> logits) {
    if (logits.rows > 50) logits(50, 7) = std::numeric_limits<float>::quiet_NaN();
  };
  try {
    evaluate(model, nullptr, some_windows());
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::data);
    // 39 predictions in window 0; row 50 is the 12th of window 1, whose first state is at 20.
    EXPECT_NE(std::string(error.what()).find("window 1 at position 31"), std::string::npos)
        << error.what();
  }
}

TEST(Evaluate, RefusesModelsOfDifferentVocabularies) {
  SmallModel model(kVocabulary, 8, 1), reference(kVocabulary + 1, 8, 1);
  EXPECT_THROW(evaluate(model, &reference, some_windows()), Error);
}

TEST(Evaluate, ReportsProgressAndStopsWhenTold) {
  SmallModel model(kVocabulary, 8, 1);
  std::vector<std::int64_t> done;
  EvalOptions options;
  options.batch_tokens = 1;
  options.progress = [&](const Progress& progress) {
    EXPECT_EQ(progress.total, 4);
    done.push_back(progress.done);
    return true;
  };
  evaluate(model, nullptr, some_windows(), options);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.front(), 0);
  EXPECT_EQ(done.back(), 4);

  options.progress = [](const Progress& progress) { return progress.done < 2; };
  try {
    evaluate(model, nullptr, some_windows(), options);
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::cancelled);
  }
}

}  // namespace
}  // namespace neap
