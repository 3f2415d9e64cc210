#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>

#include "model/weights.h"
#include "neap/error.h"
#include "neap/quantize.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class QuantizeTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "Line " + std::to_string(i * i) + " of the calibration text.\n";
    text_ = folder_.write("text.txt", text);
  }

  // 3 bits, groups of 4: what divides the tiny models' inputs.
  QuantizeOptions options(const std::string& output, Method method) {
    QuantizeOptions o;
    o.recipe.method = method;
    o.recipe.bits = 3;
    o.recipe.group = 4;
    o.recipe.symmetric = false;
    o.recipe.length = 64;
    o.calibration_files = {text_};
    o.output = folder_ / output;
    o.threads = 2;
    return o;
  }
  QuantizeReport run(const std::string& model, const QuantizeOptions& o) {
    return quantize(Checkpoint::open(model_path(model)), o);
  }
  std::string model_path(const std::string& name) {
    return fs::exists(folder_ / name) ? folder_ / name : test::tiny_model(folder_, name);
  }
  // Whatever of an output's name is left on the disk, temporary siblings included.
  bool left_behind(const std::string& output) {
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      if (entry.path().filename().string().starts_with(output)) return true;
    }
    return false;
  }

  test::TempFolder folder_;
  std::string text_;
};

TEST_F(QuantizeTest, EveryMethodWritesAModelThatLoads) {
  for (const Method method : {Method::rtn, Method::gptq, Method::gptaq, Method::awq, Method::ojbkq}) {
    const auto report = run("qwen2", options("out-" + name_of(method), method));
    const Checkpoint output = Checkpoint::open(report.output);
    const auto model = load_model(output);
    std::vector<TokenId> tokens(12, 70);
    Matrix<float> states(12, static_cast<std::size_t>(model->config().hidden));
    model->forward(tokens, 12, states);
    for (std::size_t i = 0; i < states.rows() * states.cols(); ++i) ASSERT_TRUE(std::isfinite(states.data()[i]));
    EXPECT_EQ(report.layers.size(), 7u * static_cast<std::size_t>(model->config().layers));
  }
}

TEST_F(QuantizeTest, ThreadCountDoesNotChangeTheBytes) {
  for (const Method method : {Method::ojbkq, Method::gptaq, Method::awq}) {
    QuantizeOptions one = options("one-" + name_of(method), method);
    QuantizeOptions three = options("three-" + name_of(method), method);
    one.threads = 1;
    three.threads = 3;
    const std::string a = run("llama31", one).output, b = run("llama31", three).output;
    EXPECT_EQ(contents(a + "/model.safetensors"), contents(b + "/model.safetensors")) << name_of(method);
    EXPECT_EQ(contents(a + "/config.json"), contents(b + "/config.json"));
  }
}

TEST_F(QuantizeTest, MemoryLimitDoesNotChangeTheBytes) {
  QuantizeOptions small = options("small", Method::ojbkq);
  small.max_memory = 1;
  const std::string a = run("llama2", options("large", Method::ojbkq)).output, b = run("llama2", small).output;
  EXPECT_EQ(contents(a + "/model.safetensors"), contents(b + "/model.safetensors"));
}

TEST_F(QuantizeTest, ObjectivesFallFromStageToStage) {
  const auto report = run("llama2", options("out", Method::ojbkq));
  for (const LayerRecord& layer : report.layers) {
    EXPECT_LE(layer.objective_paths, layer.objective_greedy) << layer.module;
    EXPECT_LE(layer.objective_descent, layer.objective_paths) << layer.module;
    EXPECT_EQ(layer.rows_won.size(), 6u);
  }
}

TEST_F(QuantizeTest, OutputHoldsWhatTheRecipeSays) {
  QuantizeOptions o = options("out", Method::gptq);
  o.recipe.overrides = {parse_override("re:.*down_proj=bits:8")};
  o.recipe.ignore = {"model.layers.1.self_attn.o_proj"};
  const auto report = run("llama2", o);
  const Checkpoint output = Checkpoint::open(report.output);
  EXPECT_NE(output.find("model.layers.1.self_attn.o_proj.weight"), nullptr);
  EXPECT_EQ(output.find("model.layers.1.self_attn.q_proj.weight"), nullptr);
  // 44 inputs of 8 bits are 11 words of 32 bits.
  EXPECT_EQ(output.info("model.layers.0.mlp.down_proj.weight_packed").shape, (Shape{64, 11}));
  const auto recipe = Recipe::from_json(contents(report.output + "/neap_recipe.json"), "neap_recipe.json");
  EXPECT_EQ(recipe.to_json(), o.recipe.to_json());
  EXPECT_TRUE(nlohmann::json::accept(contents(report.output + "/quantization_report.json")));
}

TEST_F(QuantizeTest, AQuantizedHeadIsUntiedFromTheEmbedding) {
  QuantizeOptions o = options("out", Method::ojbkq);
  o.recipe.lm_head_bits = 8;
  const auto report = run("smollm2", o);
  const Checkpoint output = Checkpoint::open(report.output);
  EXPECT_FALSE(read_config(output).tied_head);
  EXPECT_NE(output.find("lm_head.weight_packed"), nullptr);
  EXPECT_NE(output.find("model.embed_tokens.weight"), nullptr);
}

TEST_F(QuantizeTest, FoldedFactorsKeepTheFunctionUpToRounding) {
  // At 8 bits rounding is small: what is left would be a factor that was folded in on one side only.
  const auto states_of = [&](const std::string& path) {
    const auto model = load_model(Checkpoint::open(path), {Precision::f32, 0});
    std::vector<TokenId> tokens(24);
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(3 + 11 * i % 250);
    Matrix<float> states(24, static_cast<std::size_t>(model->config().hidden));
    model->forward(tokens, 24, states);
    return states;
  };
  for (const Method method : {Method::awq, Method::rtn, Method::ojbkq}) {
    for (const char* name : {"qwen2", "llama1"}) {  // with biases; with as many key heads as heads
      QuantizeOptions folded = options(name_of(method) + "-" + name, method);
      folded.recipe.bits = 8;
      folded.recipe.balance = method != Method::awq;
      const Matrix<float> full = states_of(model_path(name)), found = states_of(run(name, folded).output);
      double error = 0, energy = 0;
      for (std::size_t i = 0; i < full.rows() * full.cols(); ++i) {
        error += std::pow(found.data()[i] - full.data()[i], 2);
        energy += std::pow(full.data()[i], 2);
      }
      EXPECT_LT(error, 1e-3 * energy) << name << name_of(method);
    }
  }
}

TEST_F(QuantizeTest, CancellingLeavesNothing) {
  for (int after : {0, 3, 9}) {
    QuantizeOptions o = options("out", Method::ojbkq);
    o.progress = [&](const Progress&) { return after-- > 0; };
    try {
      run("llama2", o);
      FAIL() << "not cancelled";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::cancelled);
    }
    EXPECT_FALSE(left_behind("out"));
  }
}

TEST_F(QuantizeTest, AnOutputThatExistsIsKept) {
  folder_.write("out/precious.txt", "keep me");
  EXPECT_THROW(run("llama2", options("out", Method::rtn)), Error);
  EXPECT_EQ(contents(folder_ / "out/precious.txt"), "keep me");
}

TEST_F(QuantizeTest, TooLittleCalibrationTextLeavesNothing) {
  QuantizeOptions o = options("out", Method::gptq);
  o.recipe.samples = 1000;
  EXPECT_THROW(run("llama2", o), Error);
  EXPECT_FALSE(left_behind("out"));
}

TEST_F(QuantizeTest, FewerTokensThanTheModelIsWideAreTooFew) {
  QuantizeOptions o = options("out", Method::ojbkq);
  o.calibration_files = {folder_.write("short.txt", "a few words")};
  EXPECT_THROW(run("llama2", o), Error);
  EXPECT_FALSE(left_behind("out"));
}

TEST_F(QuantizeTest, WritesItsOwnTextWhenNoneIsGiven) {
  QuantizeOptions o = options("out", Method::ojbkq);
  o.calibration_files.clear();
  o.recipe.samples = 5;
  o.recipe.length = 16;
  const auto report = run("llama2", o);
  EXPECT_EQ(report.calibration_windows, 5);
  EXPECT_EQ(report.calibration_tokens, 80);
}

}  // namespace
}  // namespace neap
