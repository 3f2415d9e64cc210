#include "neap/bench.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "neap/error.h"
#include "support/expect_error.h"

namespace neap {
namespace {

std::unique_ptr<LanguageModel> tiny(const std::string& name) {
  return load_model(Checkpoint::open(NEAP_GOLDEN_DIR "/models/" + name),
                    {.precision = Precision::f32});
}

TEST(Bench, ASpeedIsTheMeanOfTheRepetitions) {
  BenchRun run{.test = {.n_gen = 12}, .seconds = {1, 2, 4}};  // 12, 6, 3 tokens a second
  EXPECT_DOUBLE_EQ(run.mean_seconds(), 7.0 / 3);
  EXPECT_DOUBLE_EQ(run.mean_speed(), 7);
  EXPECT_DOUBLE_EQ(run.stddev_speed(), std::sqrt((25.0 + 1 + 16) / 2));
  run.seconds = {1};
  EXPECT_EQ(run.stddev_speed(), 0);
}

TEST(Bench, SharesAddUpTheTimesOfAllArithmetics) {
  BenchRun run{.test = {.n_prompt = 1}, .seconds = {10}, .bytes = 60, .products = {0, 100, 400}};
  const MachineLimits limits{.read = 30, .products = {0, 50, 200}};
  EXPECT_DOUBLE_EQ(run.read_share(limits), 0.2);
  EXPECT_DOUBLE_EQ(run.product_share(limits), 0.4);
}

TEST(Bench, CountsTheModelAsItsTensorsSay) {
  for (const char* name : {"llama2", "llama-bias", "qwen2", "qwen3", "smollm3"}) {
    const auto checkpoint = Checkpoint::open(std::string(NEAP_GOLDEN_DIR "/models/") + name);
    const auto model = load_model(checkpoint, {.precision = Precision::f32});
    std::int64_t parameters = 0;
    for (const TensorInfo& tensor : checkpoint.tensors()) {
      std::int64_t count = 1;
      for (const std::int64_t extent : tensor.shape) count *= extent;
      parameters += count;
    }
    const BenchResult result = run_bench(*model, {.tests = {{.n_gen = 1}}, .repetitions = 1});
    EXPECT_EQ(result.parameters, parameters) << name;
    const ModelConfig& config = model->config();
    // All but the norms, and an embedding that is no head, is read in every pass.
    const std::int64_t norms = config.hidden * (2 * config.layers + 1) +
                               (config.qk_norm ? 2 * config.head_dim * config.layers : 0);
    const std::int64_t embedding = config.tied_head ? 0 : config.vocabulary * config.hidden;
    EXPECT_EQ(result.weight_bytes, 4u * static_cast<std::uint64_t>(parameters - norms - embedding))
        << name;
  }
}

TEST(Bench, CountsTheWorkOfEachTest) {
  const auto model = tiny("mistral");  // windows of 24
  const ModelConfig& config = model->config();
  const BenchResult result = run_bench(
      *model, {.tests = {{.n_prompt = 30}, {.n_gen = 3, .n_depth = 40}}, .repetitions = 2});
  ASSERT_EQ(result.runs.size(), 2u);
  const double weights = static_cast<double>(result.weight_bytes) / 4;
  const double head = static_cast<double>(config.vocabulary * config.hidden);
  const double width = static_cast<double>(config.heads * config.head_dim);
  const double kv = 2.0 * static_cast<double>(config.kv_heads * config.head_dim) * sizeof(float);
  double visible[2] = {};  // by a prompt of 30, by the tokens at 40 to 42
  double layers = 0;
  for (const LayerSwitches& layer : config.switches) {
    const std::int64_t window = layer.window > 0 ? layer.window : 1000;
    for (std::int64_t i = 1; i <= 30; ++i) visible[0] += static_cast<double>(std::min(i, window));
    for (std::int64_t i = 41; i <= 43; ++i) visible[1] += static_cast<double>(std::min(i, window));
    ++layers;
  }
  const BenchRun &prompt = result.runs[0], &generation = result.runs[1];
  EXPECT_DOUBLE_EQ(prompt.products[0],
                   2 * (30 * (weights - head) + head) + 4 * width * visible[0]);
  EXPECT_DOUBLE_EQ(prompt.bytes, 4 * weights + 30 * layers * kv);
  EXPECT_DOUBLE_EQ(generation.products[0], 3 * 2 * weights + 4 * width * visible[1]);
  EXPECT_DOUBLE_EQ(generation.bytes, 3 * 4 * weights + visible[1] * kv);
  for (const BenchRun& run : result.runs) {
    EXPECT_EQ(run.seconds.size(), 2u);
    EXPECT_GT(*std::min_element(run.seconds.begin(), run.seconds.end()), 0);
    EXPECT_GT(run.read_share(result.limits), 0);
    EXPECT_GT(run.product_share(result.limits), 0);
  }
  EXPECT_GT(result.limits.products[0], 0);
  EXPECT_EQ(result.limits.products[2], 0);  // nothing here is integer
}

TEST(Bench, SenselessTestsAreArgumentErrors) {
  const auto model = tiny("llama2");
  EXPECT_ERROR(run_bench(*model, {}), ErrorCode::argument, "nothing to measure");
  EXPECT_ERROR(run_bench(*model, {.tests = {{.n_prompt = 1, .n_gen = 1}}}), ErrorCode::argument,
               "a prompt or a generation");
  EXPECT_ERROR(run_bench(*model, {.tests = {{.n_gen = 1}}, .repetitions = 0}), ErrorCode::argument,
               "one repetition");
  EXPECT_ERROR(run_bench(*model, {.tests = {{.n_gen = 1}},
                                  .progress = [](const Progress&) { return false; }}),
               ErrorCode::cancelled, "cancelled");
}

}  // namespace
}  // namespace neap
