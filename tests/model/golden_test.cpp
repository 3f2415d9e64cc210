// The forward pass against transformers: make_tiny_models.py, make_tiny_gguf.py,
// make_tiny_packed.py and make_smollm2_golden.py in tests/golden say how the files came about.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <ostream>
#include <set>

#include "neap/error.h"
#include "neap/model.h"
#include "support/golden_file.h"

namespace neap {
namespace {

namespace fs = std::filesystem;
const std::string kGolden = NEAP_GOLDEN_DIR;

using test::GoldenFile;

Matrix<float> logits_of(const std::string& model, const std::vector<TokenId>& tokens,
                        Precision precision) {
  const auto loaded = load_model(Checkpoint::open(model), {.precision = precision});
  const ModelConfig& config = loaded->config();
  Matrix<float> states(tokens.size(), static_cast<std::size_t>(config.hidden));
  Matrix<float> logits(tokens.size(), static_cast<std::size_t>(config.vocabulary));
  loaded->forward(tokens, tokens.size(), states);
  loaded->head(states, logits);
  return logits;
}

// max |found - expected| / max |expected|
double max_error(std::span<const float> found, std::span<const float> expected) {
  EXPECT_EQ(found.size(), expected.size());
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error = std::max(error, std::abs(double{found[i]} - expected[i]));
    scale = std::max(scale, std::abs(double{expected[i]}));
  }
  return error / scale;
}

// sqrt(sum (found - expected)^2 / sum expected^2)
double rms_error(std::span<const float> found, std::span<const float> expected) {
  EXPECT_EQ(found.size(), expected.size());
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += (double{found[i]} - expected[i]) * (double{found[i]} - expected[i]);
    scale += double{expected[i]} * expected[i];
  }
  return std::sqrt(error / scale);
}

std::span<const float> all(const Matrix<float>& matrix) {
  return {matrix.data(), matrix.rows() * matrix.cols()};
}

struct Case {
  std::string name, model, golden;
};
void PrintTo(const Case& each, std::ostream* out) { *out << each.name; }

std::vector<Case> tiny_models() {
  std::vector<Case> cases;
  for (const char* name :
       {"llama1", "llama2", "llama31", "llama-linear", "llama-bias", "mistral", "qwen2",
        "qwen2-sliding", "qwen2-sliding-sharded", "qwen3", "qwen3-sharded", "smollm2", "smollm3"}) {
    const std::string folder = kGolden + "/models/" + name;
    cases.push_back({name, folder, folder + "/golden.safetensors"});
  }
  for (const char* name :
       {"llama2", "llama31", "llama-linear", "llama-bias", "qwen2", "qwen3", "smollm2"})
    cases.push_back({std::string(name) + "-gguf", kGolden + "/gguf/" + name + ".gguf",
                     kGolden + "/models/" + name + "/golden.safetensors"});
  cases.push_back({"smollm3-gguf", kGolden + "/gguf/smollm3.gguf",
                   kGolden + "/gguf/smollm3.golden.safetensors"});
  cases.push_back({"llama2-packed", kGolden + "/packed", kGolden + "/packed/golden.safetensors"});
  return cases;
}

class TinyModel : public testing::TestWithParam<Case> {};

TEST_P(TinyModel, LogitsAreTransformersInF32) {
  const GoldenFile golden(GetParam().golden);
  const auto found = logits_of(GetParam().model, golden.tokens("input_ids"), Precision::f32);
  const double error = max_error(all(found), golden.values<float>("logits"));
  RecordProperty("max_error", std::to_string(error));
  EXPECT_LT(error, 1e-4);
}

// Bf16 rounds the inputs of six kinds of product per block (h, q and k, the softmax, a, h again, f)
// and of the head, each by 2^-9 of a value at most. If no part of a block amplified a relative
// error they would add up to the bound at worst; at random they add up to its root, which leaves
// room for what amplifies (scores larger than 1 in the softmax, gate times up).
TEST_P(TinyModel, LogitsAreTransformersInBf16UpToTheRoundingOfInputs) {
  const GoldenFile golden(GetParam().golden);
  const auto found = logits_of(GetParam().model, golden.tokens("input_ids"), Precision::bf16);
  const ModelConfig config = read_config(Checkpoint::open(GetParam().model));
  const double error = rms_error(all(found), golden.values<float>("logits"));
  RecordProperty("rms_error", std::to_string(error));
  EXPECT_LT(error, (6.0 * static_cast<double>(config.layers) + 1) * 0x1p-9);
  EXPECT_GT(error, 0x1p-12) << "bf16 was not used";
}

INSTANTIATE_TEST_SUITE_P(Golden, TinyModel, testing::ValuesIn(tiny_models()),
                         [](const auto& instance) {
                           std::string name = instance.param.name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(GoldenFiles, AreAllJudged) {
  std::set<std::string> judged, present;
  for (const Case& each : tiny_models()) judged.insert(fs::path(each.model).filename());
  present.insert("packed");
  for (const char* folder : {"/models", "/gguf"})
    for (const auto& entry : fs::directory_iterator(kGolden + folder))
      if (fs::is_directory(entry) || entry.path().extension() == ".gguf")
        present.insert(entry.path().filename());
  EXPECT_EQ(judged, present);
}

// The real model, where NEAP_TEST_MODELS names a folder that has it.
class SmolLm2 : public testing::TestWithParam<Case> {};

TEST_P(SmolLm2, LogitsAreTransformersInF32) {
  const char* folder = std::getenv("NEAP_TEST_MODELS");
  const std::string model = std::string(folder ? folder : "") + "/" + GetParam().model;
  if (!folder || !fs::exists(model)) GTEST_SKIP() << "NEAP_TEST_MODELS has no " << GetParam().model;
  const GoldenFile golden(GetParam().golden);
  const auto found = logits_of(model, golden.tokens("input_ids"), Precision::f32);
  const auto columns = golden.values<std::int64_t>("columns");
  const auto argmax = golden.values<std::int64_t>("argmax");
  std::vector<float> some, logsumexp;
  for (std::size_t row = 0; row < found.rows(); ++row) {
    const auto logits = found.view().row_span(row);
    for (const std::int64_t column : columns)
      some.push_back(logits[static_cast<std::size_t>(column)]);
    const auto largest = std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float x : logits) sum += std::exp(double{x} - *largest);
    logsumexp.push_back(static_cast<float>(*largest + std::log(sum)));
    EXPECT_EQ(largest - logits.begin(), argmax[row]) << "position " << row;
  }
  const double error = max_error(some, golden.values<float>("logits"));
  RecordProperty("max_error", std::to_string(error));
  EXPECT_LT(error, 1e-4);
  EXPECT_LT(max_error(logsumexp, golden.values<float>("logsumexp")), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(
    Golden, SmolLm2,
    testing::Values(Case{"gguf", "smollm2.gguf", kGolden + "/smollm2/gguf.safetensors"},
                    Case{"offgrid", "smollm2-offgrid", kGolden + "/smollm2/offgrid.safetensors"}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace neap
