// The evaluator on models of files against what PyTorch made of the same ids.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <numeric>

#include "neap/eval.h"
#include "support/golden_file.h"

namespace neap {
namespace {

const std::string kGolden = NEAP_GOLDEN_DIR;

// Losses and divergences in fp64 from logits that transformers computed.
struct FromLogits {
  std::vector<double> nll, reference_nll, kl;

  FromLogits(const std::vector<float>& logits, const std::vector<float>& reference,
             const std::vector<TokenId>& tokens) {
    const std::size_t vocabulary = logits.size() / tokens.size();
    for (std::size_t at = 1; at < tokens.size(); ++at) {
      const auto q = log_softmax(&logits[(at - 1) * vocabulary], vocabulary);
      const auto p = log_softmax(&reference[(at - 1) * vocabulary], vocabulary);
      nll.push_back(-q[static_cast<std::size_t>(tokens[at])]);
      reference_nll.push_back(-p[static_cast<std::size_t>(tokens[at])]);
      double sum = 0;
      for (std::size_t v = 0; v < vocabulary; ++v) sum += std::exp(p[v]) * (p[v] - q[v]);
      kl.push_back(sum);
    }
  }

  static std::vector<double> log_softmax(const float* row, std::size_t count) {
    double sum = 0;
    for (std::size_t v = 0; v < count; ++v) sum += std::exp(double{row[v]});
    std::vector<double> out(count);
    for (std::size_t v = 0; v < count; ++v) out[v] = row[v] - std::log(sum);
    return out;
  }
};

template <class T>
double mean(const std::vector<T>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Two tiny models that were judged on the same ids: each pair has one that stands for the reference.
TEST(TinyModels, PerplexityAndDivergenceAreThoseOfTransformersLogits) {
  for (const std::string name : {"llama1", "llama31", "qwen3", "smollm3"}) {
    const std::string folder = kGolden + "/models/" + name, other = kGolden + "/models/llama2";
    const test::GoldenFile golden(folder + "/golden.safetensors"), base(other + "/golden.safetensors");
    const auto tokens = golden.tokens("input_ids");
    ASSERT_EQ(tokens, base.tokens("input_ids"));
    const FromLogits expected(golden.values<float>("logits"), base.values<float>("logits"), tokens);
    const auto model = load_model(Checkpoint::open(folder), {.precision = Precision::f32});
    const auto reference = load_model(Checkpoint::open(other), {.precision = Precision::f32});
    const EvalResult found = evaluate(*model, reference.get(), {{tokens, 1}});
    EXPECT_NEAR(found.perplexity.value, std::exp(mean(expected.nll)),
                1e-4 * found.perplexity.value) << name;
    EXPECT_NEAR(found.divergence->reference.value, std::exp(mean(expected.reference_nll)),
                1e-4 * found.divergence->reference.value) << name;
    EXPECT_NEAR(found.divergence->kl.mean, mean(expected.kl), 1e-4 * mean(expected.kl)) << name;
    EXPECT_NEAR(found.divergence->kl_max, *std::max_element(expected.kl.begin(), expected.kl.end()),
                1e-4 * found.divergence->kl_max) << name;
  }
}

// As tests/golden/make_eval_goldens.py: channel i of what the head reads times 1 + 0.1 sin(i).
class Perturbed : public LanguageModel {
 public:
  explicit Perturbed(std::unique_ptr<LanguageModel> model) : model_(std::move(model)) {}
  const ModelConfig& config() const override { return model_->config(); }
  void forward(std::span<const TokenId> tokens, std::size_t length,
               MatrixView<float> states) override {
    model_->forward(tokens, length, states);
    for (std::size_t r = 0; r < states.rows; ++r) {
      for (std::size_t c = 0; c < states.cols; ++c) {
        states(r, c) *= static_cast<float>(1 + 0.1 * std::sin(static_cast<double>(c)));
      }
    }
  }
  void head(MatrixView<const float> states, MatrixView<float> logits) override {
    model_->head(states, logits);
  }

 private:
  std::unique_ptr<LanguageModel> model_;
};

class SmolLm2 : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("NEAP_TEST_MODELS");
    path_ = std::string(folder ? folder : "") + "/smollm2.gguf";
    if (!folder || !std::filesystem::exists(path_)) GTEST_SKIP() << "NEAP_TEST_MODELS has no model";
  }

  EvalResult run(Precision precision) {
    const auto tokens = golden_.tokens("windows");
    const auto half = tokens.begin() + static_cast<std::ptrdiff_t>(tokens.size() / 2);
    const auto reference = load_model(Checkpoint::open(path_), {.precision = precision});
    Perturbed model(load_model(Checkpoint::open(path_), {.precision = precision}));
    return evaluate(model, reference.get(),
                    {{{tokens.begin(), half}, 1}, {{half, tokens.end()}, 1}});
  }

  std::string path_;
  const test::GoldenFile golden_{kGolden + "/eval/smollm2-gguf.safetensors"};
};

TEST_F(SmolLm2, PerplexityAndDivergenceAreTorchsInF32) {
  const EvalResult found = run(Precision::f32);
  const Divergence& d = found.divergence.value();
  const double perplexity = std::exp(mean(golden_.values<float>("nll_perturbed")));
  const double reference = std::exp(mean(golden_.values<float>("nll")));
  auto kl = golden_.values<float>("kl");
  EXPECT_NEAR(found.perplexity.value, perplexity, 1e-4 * perplexity);
  EXPECT_NEAR(d.reference.value, reference, 1e-4 * reference);
  EXPECT_NEAR(d.kl.mean, mean(kl), 1e-4 * mean(kl));
  std::sort(kl.begin(), kl.end());
  EXPECT_NEAR(d.kl_median, (kl[510] + kl[511]) / 2, 1e-3 * d.kl_median);  // 1022 values
  EXPECT_NEAR(d.kl_max, kl.back(), 1e-3 * d.kl_max);
  // A token may change sides where two logits are equal within rounding.
  EXPECT_NEAR(d.same_top.mean, mean(golden_.values<std::uint8_t>("same_top1")), 1.5 / 1022);
}

// The text is short, so rounding does not average out as it does over a whole file; 0.1 % is the
// promise for those.
TEST_F(SmolLm2, Bf16IsWithinATenthOfAPercentOfF32) {
  const EvalResult found = run(Precision::bf16);
  const double reference = std::exp(mean(golden_.values<float>("nll")));
  EXPECT_NEAR(found.divergence->reference.value, reference, 1e-3 * reference);
}

}  // namespace
}  // namespace neap
