#include "model/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "io/json.h"
#include "neap/error.h"

namespace neap {
namespace {

std::vector<float> random_logits(std::size_t count, std::uint32_t seed, float spread) {
  std::vector<float> logits(count);
  for (std::size_t i = 0; i < count; ++i)
    logits[i] =
        spread * (uniform_float(philox({static_cast<std::uint32_t>(i), 0, 0, 0}, seed)[0]) - 0.5f);
  return logits;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  for (const float x : logits) p.push_back(std::exp((x - largest) / temperature));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

TEST(Sampler, GreedyTakesTheFirstOfTheLargest) {
  EXPECT_EQ(pick_token(std::vector<float>{1, 3, 2, 3}, {}, 0.9), 1);
  std::vector<float> logits = random_logits(5000, 1, 20);
  logits[4321] = logits[4444] = 30;
  EXPECT_EQ(pick_token(logits, {}, 0.9), 4321);
}

TEST(Sampler, DrawInvertsTheCumulativeDistribution) {
  for (const std::size_t count : {1, 15, 16, 17, 1023, 1024, 1025, 49152})
    for (const double temperature : {0.3, 1.0, 2.5}) {
      const auto logits = random_logits(count, 7, 24);
      const auto p = softmax(logits, temperature);
      for (int k = 0; k < 200; ++k) {
        const double uniform = sample_uniform(3, count, static_cast<std::uint64_t>(k));
        const TokenId id = pick_token(logits, {.temperature = temperature}, uniform);
        const double below = std::accumulate(p.begin(), p.begin() + id, 0.0);
        // The sampler's exponentials are single precision, relative error below 1e-6 each, and its
        // exponents' arguments up to 24 / 0.3 = 80 carry 80 * 2^-23 = 1e-5.
        EXPECT_LE(below, uniform + 2e-5);
        EXPECT_GE(below + p[static_cast<std::size_t>(id)], uniform - 2e-5);
      }
    }
}

TEST(Sampler, DrawsFollowSoftmaxByChiSquared) {
  const std::vector<float> logits = {0.5f, -1, 2, 0, 1.5f, -3, 0.25f, 1};
  const auto p = softmax(logits, 0.8);
  constexpr int kDraws = 40000;
  std::vector<int> seen(logits.size());
  for (int k = 0; k < kDraws; ++k)
    ++seen[static_cast<std::size_t>(pick_token(
        logits, {.temperature = 0.8}, sample_uniform(11, 5, static_cast<std::uint64_t>(k))))];
  double chi_squared = 0;
  for (std::size_t i = 0; i < p.size(); ++i)
    chi_squared += (seen[i] - kDraws * p[i]) * (seen[i] - kDraws * p[i]) / (kDraws * p[i]);
  EXPECT_LT(chi_squared, 24.3);  // 7 degrees of freedom, 0.1 %
}

std::set<TokenId> reachable(const std::vector<float>& logits, const SampleOptions& options) {
  std::set<TokenId> ids;
  for (int k = 0; k < 2000; ++k) ids.insert(pick_token(logits, options, k / 2000.0));
  return ids;
}

TEST(Sampler, TopKLeavesTheLikeliest) {
  const std::vector<float> logits = {1, 4, 3, 4, 0, 2};
  EXPECT_EQ(reachable(logits, {.temperature = 1, .top_k = 1}), (std::set<TokenId>{1}));
  EXPECT_EQ(reachable(logits, {.temperature = 1, .top_k = 3}), (std::set<TokenId>{1, 2, 3}));
  EXPECT_EQ(reachable(logits, {.temperature = 1, .top_k = 99}).size(), 6u);
}

TEST(Sampler, TopPLeavesTheFewestThatReachIt) {
  std::vector<float> logits;
  for (const double p : {0.1, 0.5, 0.25, 0.15}) logits.push_back(static_cast<float>(std::log(p)));
  EXPECT_EQ(reachable(logits, {.temperature = 1, .top_p = 0.01}), (std::set<TokenId>{1}));
  EXPECT_EQ(reachable(logits, {.temperature = 1, .top_p = 0.6}), (std::set<TokenId>{1, 2}));
  EXPECT_EQ(reachable(logits, {.temperature = 1, .top_p = 0.8}), (std::set<TokenId>{1, 2, 3}));
  // 0.5 and 0.25 are two thirds and one third of the top two.
  EXPECT_EQ(reachable(logits, {.temperature = 1, .top_k = 2, .top_p = 0.6}),
            (std::set<TokenId>{1}));
}

TEST(Sampler, MinPLeavesThoseNearTheLikeliest) {
  std::vector<float> logits;
  for (const double p : {0.1, 0.5, 0.25, 0.15}) logits.push_back(static_cast<float>(std::log(p)));
  EXPECT_EQ(reachable(logits, {.temperature = 1, .min_p = 0.19}).size(), 4u);
  EXPECT_EQ(reachable(logits, {.temperature = 1, .min_p = 0.21}), (std::set<TokenId>{1, 2, 3}));
  EXPECT_EQ(reachable(logits, {.temperature = 1, .min_p = 0.49}), (std::set<TokenId>{1, 2}));
  EXPECT_EQ(reachable(logits, {.temperature = 1, .min_p = 1}), (std::set<TokenId>{1}));
  EXPECT_EQ(reachable(logits, {.temperature = 1, .top_k = 2, .min_p = 0.21}),
            (std::set<TokenId>{1, 2}));
  EXPECT_EQ(reachable(logits, {.temperature = 1, .top_p = 0.4, .min_p = 0.21}),
            (std::set<TokenId>{1}));
  // Temperature comes first: (0.1 / 0.5)^2 = 0.04.
  EXPECT_EQ(reachable(logits, {.temperature = 0.5, .min_p = 0.05}), (std::set<TokenId>{1, 2, 3}));
}

TEST(Sampler, ThePenaltyFallsOnceOnWhatWasSeen) {
  std::vector<float> logits = {2, -2, 0, 4, 1};
  RepetitionPenalty penalty(2, 5);
  penalty.see(std::vector<TokenId>{0, 1, 0, 2, 0, 77});
  penalty.apply(logits);
  EXPECT_EQ(logits, (std::vector<float>{1, -4, 0, 4, 1}));
  penalty.forget();
  penalty.see(std::vector<TokenId>{3});
  penalty.apply(logits);
  EXPECT_EQ(logits, (std::vector<float>{1, -4, 0, 2, 1}));
}

// tests/golden/make_sampling_goldens.py: fp64, where the logits of ours are fp32 after the penalty.
TEST(Sampler, LeavesWhatTransformersLeaves) {
  const std::string file = NEAP_GOLDEN_DIR "/sampling.json";
  const Json cases = parse_json(read_text_file(file), file);
  ASSERT_GT(cases.size(), 50u);
  for (std::size_t c = 0; c < cases.size(); ++c) {
    const Json& golden = cases[c];
    std::vector<float> logits;
    for (const Json& value : golden["logits"]) logits.push_back(value.get<float>() / 64);
    const SampleOptions options{.temperature = golden["temperature"],
                                .top_k = golden["top_k"],
                                .top_p = golden["top_p"],
                                .min_p = golden["min_p"],
                                .repetition_penalty = golden["repetition_penalty"]};
    RepetitionPenalty penalty(options.repetition_penalty, logits.size());
    penalty.see(golden["history"].get<std::vector<TokenId>>());
    penalty.apply(logits);
    const Candidates left = candidates_of(logits, options);
    EXPECT_EQ(left.ids, golden["ids"].get<std::vector<TokenId>>()) << "case " << c;
    const auto probabilities = golden["probabilities"].get<std::vector<double>>();
    ASSERT_EQ(left.weights.size(), probabilities.size()) << "case " << c;
    const double sum = std::accumulate(left.weights.begin(), left.weights.end(), 0.0);
    for (std::size_t i = 0; i < probabilities.size(); ++i) {
      EXPECT_NEAR(left.weights[i] / sum, probabilities[i], 1e-5 * probabilities[i]) << "case " << c;
    }
  }
}

TEST(Sampler, TinyTemperatureIsGreedy) {
  const auto logits = random_logits(3000, 9, 10);
  const TokenId greedy = pick_token(logits, {}, 0);
  for (const double temperature : {1e-6, 1e-300})
    for (const double uniform : {0.0, 0.5, 0.999999})
      EXPECT_EQ(pick_token(logits, {.temperature = temperature}, uniform), greedy);
}

TEST(Sampler, HopelessLogitsAreNeverDrawn) {
  std::vector<float> logits(2048, -1e30f);
  logits[100] = 0;
  for (const double uniform : {0.0, 0.5, 1 - 1e-16})
    EXPECT_EQ(pick_token(logits, {.temperature = 1}, uniform), 100);
}

TEST(Sampler, NonFiniteLogitsAreAnErrorWhereverTheyStand) {
  for (const float bad : {NAN, INFINITY, -INFINITY})
    for (const std::size_t at : {0, 31, 32, 39})
      for (const SampleOptions& options : {SampleOptions{}, SampleOptions{.temperature = 1},
                                           SampleOptions{.temperature = 1, .top_k = 3}}) {
        std::vector<float> logits(40, 1.0f);
        logits[at] = bad;
        EXPECT_THROW(pick_token(logits, options, 0.5), Error) << bad << " at " << at;
      }
}

TEST(Sampler, UniformsDifferByEachOfSeedSequenceAndStep) {
  const std::set<double> drawn = {sample_uniform(1, 2, 3), sample_uniform(2, 2, 3),
                                  sample_uniform(1, 3, 3), sample_uniform(1, 2, 4),
                                  sample_uniform(1, 3, 2)};
  EXPECT_EQ(drawn.size(), 5u);
  EXPECT_EQ(sample_uniform(1, 2, 3), sample_uniform(1, 2, 3));
}

TEST(Sampler, OptionsOutOfRangeAreArgumentErrors) {
  for (const SampleOptions& options :
       {SampleOptions{.max_tokens = -1}, SampleOptions{.temperature = -1},
        SampleOptions{.temperature = NAN}, SampleOptions{.top_k = -1}, SampleOptions{.top_p = 0},
        SampleOptions{.top_p = 1.5}, SampleOptions{.min_p = -0.1}, SampleOptions{.min_p = 1.1},
        SampleOptions{.min_p = NAN}, SampleOptions{.repetition_penalty = 0},
        SampleOptions{.repetition_penalty = INFINITY}})
    EXPECT_THROW(check_options(options), Error);
  check_options({});
}

}  // namespace
}  // namespace neap
